"""Regions and walks on graphs whose parts are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dino_diffusion.evaluation.per_image import cut_regions, merged_attention, prior_shares, walked
from dino_diffusion.segmentation.naming import lung_prior

SIDE = 32


def moved_lungs() -> torch.Tensor:
    """`(cells,)` bool: lungs a little away from where the prior has them."""
    return torch.roll(lung_prior(SIDE), (2, 1), (0, 1)).flatten()


def attending_to_its_own(members: torch.Tensor) -> torch.Tensor:
    """Rows sum to 1; a cell hardly attends to what it does not belong with, and noise is on top."""
    noise = torch.rand(len(members), len(members), generator=torch.Generator().manual_seed(0))
    weights = torch.where(members[:, None] == members[None], 1.0, 0.02) + 0.1 * noise
    return weights / weights.sum(1, keepdim=True)


def same_parts(regions: np.ndarray, members: torch.Tensor) -> bool:
    """Whether two numberings say the same."""
    pairs = {(int(region), bool(member)) for region, member in zip(regions, members, strict=True)}
    return len(pairs) == len(set(regions)) == len(set(members.tolist()))


def test_maps_that_are_alike_become_one() -> None:
    lungs = moved_lungs()
    attention = attending_to_its_own(lungs)
    assert same_parts(merged_attention(attention, 0.5), lungs)
    assert len(set(merged_attention(attention, 1e-6))) > 2, "nothing is alike at that threshold"
    assert not merged_attention(attention, 1e3).any(), "everything is"


def test_a_graph_is_cut_where_it_hangs_together_least() -> None:
    lungs = moved_lungs()
    graph = attending_to_its_own(lungs)
    graph = graph + graph.T
    assert same_parts(cut_regions(graph, 0.3), lungs)
    assert not cut_regions(graph, 0.0).any(), "no cut is for nothing"
    assert len(set(cut_regions(graph, 2.0))) > 2


def test_cells_too_few_to_part_stay_together() -> None:
    assert not cut_regions(torch.eye(9) + 1e-6, 2.0).any()


def test_a_region_is_lung_as_far_as_it_lies_inside_the_prior() -> None:
    lungs = moved_lungs()
    inside = lung_prior(SIDE).flatten()
    right_half = torch.arange(SIDE).repeat(SIDE) >= SIDE // 2
    shares = prior_shares(lungs.long().numpy())
    assert shares.shape == (1, 1, SIDE, SIDE)
    for half in (right_half, ~right_half):
        for part in (lungs, ~lungs):
            expected = float(inside[half & part].float().mean())
            assert shares.flatten()[half & part].tolist() == pytest.approx(
                [expected] * int((half & part).sum())
            )


def test_walks_end_in_the_lungs_that_are_there() -> None:
    lungs = moved_lungs()
    graph = attending_to_its_own(lungs)
    reached = walked(graph + graph.T).flatten()
    assert ((reached > 0.5) == lungs).float().mean() > 0.99
    assert float(reached.min()) >= 0 and float(reached.max()) <= 1
