"""How strongly edges draw an outline: strongly where examples have edges, not at all where they have none."""

import torch

from dino_diffusion.segmentation.edge_pull import PULLS, pulled, recovered

SIZE = 128


def disc(x: float, y: float, radius: float, size: int = SIZE) -> torch.Tensor:
    """`(size, size)` float."""
    line = torch.arange(size) + 0.5
    return (torch.hypot(line[None] - x, line[:, None] - y) < radius).float()


def picture() -> torch.Tensor:
    """`(1, 1, SIZE, SIZE)`: one dark disc in noise."""
    noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return (0.7 - 0.4 * disc(36, 64, 24) + 0.01 * noise)[None, None]


def targets(*labels: torch.Tensor) -> torch.Tensor:
    """`(1, labels + 1, SIZE, SIZE)`."""
    return torch.stack([1 - sum(labels), *labels])[None]


def test_an_outline_on_edges_asks_for_a_pull_and_one_on_nothing_for_none() -> None:
    on_edges, on_nothing, absent = disc(36, 64, 24), disc(92, 64, 10), torch.zeros(SIZE, SIZE)
    found = recovered(targets(on_edges, on_nothing, absent), picture())
    assert found.shape == (3, len(PULLS)) and not found[2].any()
    best = [PULLS[int(index)] for index in found.argmax(1)]
    assert best[0] > 0 and best[1:] == [0.0, 0.0]
    assert found[0].max() > 0.97 > found[0, 0]


def test_labels_are_cut_each_by_its_own_pull() -> None:
    rough = torch.nn.functional.avg_pool2d(
        torch.stack([disc(40, 66, 26), disc(92, 64, 10)])[None] * 0.9 + 0.02, 4
    )[0]
    drawn = pulled(rough, picture()[0], [24.0, 0.0], SIZE)
    plain = torch.nn.functional.interpolate(rough[None], (SIZE, SIZE), mode="bilinear")[0]
    wanted = disc(36, 64, 24) > 0.5
    assert ((drawn[0] > 0.5) ^ wanted).sum() < 0.05 * wanted.sum() < ((plain[0] > 0.5) ^ wanted).sum()
    assert ((drawn[1] > 0.5) ^ (plain[1] > 0.5)).sum() < 0.1 * (plain[1] > 0.5).sum()
