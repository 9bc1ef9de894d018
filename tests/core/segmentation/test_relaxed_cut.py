"""Cuts of many pictures at once: as cheap as the exact ones, one by one, and the same in any company."""

import numpy as np
import pytest
import torch

from dino_diffusion.segmentation.cut_costs import STEPS, CutCosts, cut_costs, in_edges, neighbours
from dino_diffusion.segmentation.edge_cut import edge_cut, softened
from dino_diffusion.segmentation.relaxed_cut import relaxed_cuts

SHAPE = 40, 48


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A probability and a picture with a dark ellipse not quite where it is likely, float32."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    row, column = rng.uniform(16, 24), rng.uniform(18, 30)
    ellipse = np.hypot((y - row) / 1.4, x - column) < rng.uniform(8, 11)
    picture = np.where(ellipse, 0.3, 0.8) + rng.normal(0, 0.03, SHAPE)
    likely = softened(np.roll(ellipse, (2, -2), (0, 1)), 3.0).clip(0.02, 0.98)
    return likely.astype(np.float32), picture.astype(np.float32)


def cost(masks: torch.Tensor, costs: CutCosts) -> torch.Tensor:
    """Of each mask, `(B,)`."""
    inside = masks.double()
    total = -(costs.odds * inside).flatten(1).sum(1)
    for number, ((down, right), _) in enumerate(STEPS):
        here, there = neighbours(SHAPE, down, right)
        step = inside[:, *here] - inside[:, *there]
        for part, crossed in ((costs.out, step.clamp_min(0)), (costs.back, (-step).clamp_min(0))):
            total += (part[:, number, *here] * crossed).flatten(1).sum(1)
    return total


@pytest.mark.parametrize("outside", [True, False])
def test_they_cost_what_the_exact_cuts_do(outside: bool) -> None:
    probabilities, pictures = (np.stack(parts) for parts in zip(*map(scene, range(6)), strict=True))
    start = torch.from_numpy(probabilities)
    costs = cut_costs(start, in_edges(torch.from_numpy(pictures)), brighter_outside=outside)
    exact = torch.from_numpy(
        np.stack(
            [
                edge_cut(likely, picture, brighter_outside=outside)
                for likely, picture in zip(probabilities, pictures, strict=True)
            ]
        )
    )
    relaxed = relaxed_cuts(costs, start)
    assert ((start > 0.5) != exact).flatten(1).sum(1).min() > 10  # there is something to find
    assert torch.allclose(cost(relaxed, costs), cost(exact, costs), rtol=1e-4)
    assert (relaxed != exact).float().mean() < 1e-3


def test_a_picture_is_cut_alike_in_any_company() -> None:
    probabilities, pictures = (
        torch.from_numpy(np.stack(parts)) for parts in zip(*map(scene, range(3)), strict=True)
    )
    together = relaxed_cuts(cut_costs(probabilities, in_edges(pictures)), probabilities)
    for number in range(3):
        own = probabilities[number : number + 1]
        alone = relaxed_cuts(cut_costs(own, in_edges(pictures[number : number + 1])), own)
        assert torch.equal(together[number], alone[0])


def test_flat_pictures_have_no_edges_and_no_undefined_number() -> None:
    flat = torch.full((1, *SHAPE), 0.5)
    likely = torch.from_numpy(scene(0)[0])[None]
    costs = cut_costs(likely, in_edges(flat))
    assert all(part.isfinite().all() for part in costs)
    assert relaxed_cuts(costs, likely).dtype == torch.bool
