"""What draws an outline: edges and shade where examples show them, else nothing."""

import torch

from dino_diffusion.segmentation.outline_cues import CUES, Cue, drawn, recovered, shade_of, shaded

SIZE = 128


def disc(x: float, y: float, radius: float) -> torch.Tensor:
    """`(SIZE, SIZE)` float."""
    line = torch.arange(SIZE) + 0.5
    return (torch.hypot(line[None] - x, line[:, None] - y) < radius).float()


def band(y: float, height: float) -> torch.Tensor:
    """`(SIZE, SIZE)` float: a level band that ends well inside."""
    rows, columns = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    return ((rows - y).abs() < height / 2).float() * (columns > 20) * (columns < SIZE - 20)


def noise() -> torch.Tensor:
    return 0.01 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def picture() -> torch.Tensor:
    """`(1, 1, SIZE, SIZE)`: one dark disc in noise."""
    return (0.7 - 0.4 * disc(36, 64, 24) + noise())[None, None]


def targets(*labels: torch.Tensor) -> torch.Tensor:
    """`(1, labels + 1, SIZE, SIZE)`."""
    return torch.stack([1 - sum(labels), *labels])[None]


def wrong(found: torch.Tensor, wanted: torch.Tensor) -> int:
    return int(((found > 0.5) ^ (wanted > 0.5)).sum())


def chosen(targets: torch.Tensor, pictures: torch.Tensor) -> list[Cue]:
    return [CUES[int(index)] for index in recovered(targets, pictures).argmax(1)]


def test_an_outline_on_edges_asks_for_a_pull_and_one_on_nothing_for_none() -> None:
    on_edges, on_nothing, absent = disc(36, 64, 24), disc(92, 64, 10), torch.zeros(SIZE, SIZE)
    labels = targets(on_edges, on_nothing, absent)
    cues = chosen(labels, picture())
    assert cues[0].pull > 0 and cues[1:] == [Cue(), Cue()]
    found = recovered(labels, picture())
    assert found.shape == (3, len(CUES)) and found[0].max() > 0.97 > found[0, 0]


def test_a_bright_band_asks_for_brightness_a_dark_one_for_the_opposite_and_an_unseen_one_for_none() -> None:
    bright, dark, unseen = band(24, 4), band(64, 4), band(104, 4)
    seen = (0.5 + 0.2 * bright - 0.2 * dark + noise())[None, None]
    shades = [cue.shade for cue in chosen(targets(bright, dark, unseen), seen)]
    assert shades[0] > 0 > shades[1] and shades[2] == 0


def test_shade_moves_a_band_to_where_it_is_seen() -> None:
    seen, astray = (0.5 + 0.2 * band(64, 6) + noise())[None, None], band(67, 6)
    rough = torch.nn.functional.avg_pool2d(astray[None, None] * 0.6 + 0.02, 4)
    plain, found = (drawn(rough, seen, [cue])[0, 0] for cue in (Cue(), Cue(shade=5.0)))
    assert wrong(found, band(64, 6)) < 0.7 * wrong(plain, band(64, 6))


def test_what_is_unlikely_stays_so_however_bright_it_is() -> None:
    shade = shade_of((band(64, 6) + noise())[None])[0]
    assert shade.max() > 0.5
    assert torch.equal(shaded(torch.full_like(shade, 0.005), shade, 5.0), torch.full_like(shade, 0.005))


def test_labels_are_cut_each_by_its_own_pull() -> None:
    rough = torch.nn.functional.avg_pool2d(
        torch.stack([disc(40, 66, 26), disc(92, 64, 10)])[None] * 0.9 + 0.02, 4
    )
    found = drawn(rough, picture(), [Cue(pull=24.0), Cue()])[0]
    plain = torch.nn.functional.interpolate(rough, (SIZE, SIZE), mode="bilinear")[0]
    wanted = disc(36, 64, 24)
    assert wrong(found[0], wanted) < 0.05 * wanted.sum() < wrong(plain[0], wanted)
    assert wrong(found[1], plain[1]) < 0.1 * (plain[1] > 0.5).sum()
