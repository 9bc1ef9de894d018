"""From attention and features to an embedding that separates what belongs apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dino_diffusion.attention import AttentionMap
from dino_diffusion.segmentation.affinity import affinity, joint_attention, spectral_embedding


def self_attention(size: int, weights: torch.Tensor) -> AttentionMap:
    return AttentionMap("layer", "self", (size, size), weights[None, None], 0, (50.0,))


def random_attention(size: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(size**2, size**2, generator=torch.Generator().manual_seed(seed))
    return (2 * drawn).softmax(1)


def test_attention_on_any_grid_stays_a_distribution() -> None:
    maps = [self_attention(size, random_attention(size)) for size in (2, 4, 8)]
    joint = joint_attention(maps, (8, 8))
    assert joint.shape == (64, 64) and (joint >= 0).all()
    assert torch.allclose(joint.sum(1), torch.ones(64), atol=1e-5)


def test_the_coarsest_attention_is_left_out() -> None:
    fine = [self_attention(size, random_attention(size)) for size in (4, 8)]
    coarse = self_attention(2, random_attention(2))
    assert torch.equal(joint_attention([*fine, coarse], (8, 8)), joint_attention(fine, (8, 8)))


def test_enlarging_a_map_keeps_what_looks_at_what() -> None:
    """Each quarter of a 4x4 grid attends to itself alone; enlarged, its inner cells still do."""
    quarter = (torch.arange(4)[:, None] // 2 * 2 + torch.arange(4)[None] // 2).flatten()
    own = (quarter[:, None] == quarter[None]).float() / 4
    joint = joint_attention([self_attention(4, own)], (8, 8)).reshape(8, 8, 8, 8)
    assert joint[1, 1, :4, :4].sum() > 0.8 and joint[6, 1, 4:, :4].sum() > 0.8


def test_affinity_is_symmetric_and_positive() -> None:
    features = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    found = affinity(random_attention(4), [features])
    assert torch.allclose(found, found.T) and (found > 0).all()


def two_communities() -> torch.Tensor:
    """64 cells, the first 24 of which hardly know the others."""
    side = (torch.arange(64) < 24).float()
    return torch.where(side[:, None] == side[None], 1.0, 0.01)


def test_the_first_vector_parts_two_communities() -> None:
    embedding = spectral_embedding(two_communities())
    first = embedding[0].numpy()
    assert first[:24].std() < 0.05 and first[24:].std() < 0.05
    assert abs(first[:24].mean() - first[24:].mean()) > 1.5


def test_the_embedding_is_the_same_every_time_and_of_unit_variance() -> None:
    graph = affinity(random_attention(8), [torch.randn(3, 64, generator=torch.Generator().manual_seed(2))])
    first, second = spectral_embedding(graph), spectral_embedding(graph)
    assert torch.equal(first, second)
    assert np.allclose(first.std(1, correction=0), 1, atol=1e-4)


@pytest.mark.parametrize("cells", [4, 8])
def test_a_tiny_graph_has_fewer_channels(cells: int) -> None:
    features = torch.randn(3, cells, generator=torch.Generator().manual_seed(3))
    attention = torch.rand(cells, cells, generator=torch.Generator().manual_seed(4)).softmax(1)
    assert spectral_embedding(affinity(attention, [features])).shape == (cells - 2, cells)
