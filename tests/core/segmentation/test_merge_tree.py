"""Merging neighbours: nested partitions, connected regions, alike before unlike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dino_diffusion.segmentation.merge_tree import MergeTree, agglomerate
from dino_diffusion.segmentation.superpixels import neighbours


def grid_tree(values: np.ndarray) -> MergeTree:
    """Every pixel of `(h, w)` a piece of its own."""
    pieces = np.arange(values.size).reshape(values.shape)
    return agglomerate(values.reshape(-1, 1), np.ones(values.size), neighbours(pieces))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 99))
def test_coarser_partitions_unite_finer_ones_and_stay_connected(height: int, width: int, seed: int) -> None:
    values = np.random.default_rng(seed).random((height, width))
    tree = grid_tree(values)
    finer = np.arange(values.size)
    for count in range(values.size, 0, -1):
        regions = tree.cut(count)
        assert len(np.unique(regions)) == count
        for region in np.unique(regions):
            inside = (regions == region).reshape(values.shape)
            assert ndimage.label(inside)[1] == 1
            assert (tree.members(region) == inside.ravel()).all()
            assert not np.isin(finer[~inside.ravel()], finer[inside.ravel()]).any()
        finer = regions


def test_what_is_alike_is_merged_first() -> None:
    values = np.array([[0.0, 0.1, 5.0, 5.1, 9.0]])
    tree = grid_tree(values)
    cut = tree.cut(3)
    assert cut[0] == cut[1] != cut[2] == cut[3] != cut[4]


def test_small_pieces_give_way_to_large_ones() -> None:
    """Ward: of two pairs equally apart, the smaller one is merged first."""
    tree = agglomerate(np.array([[0.0], [1.0], [2.0]]), np.array([50, 50, 1]), np.array([[0, 1], [1, 2]]))
    cut = tree.cut(2)
    assert cut[0] != cut[1] == cut[2]


def test_the_lineage_climbs_to_the_root() -> None:
    tree = grid_tree(np.arange(6.0).reshape(2, 3))
    line = tree.lineage(4)
    assert line[0] == 4 and line[-1] == 10 and line == sorted(line)
    assert all(tree.members(node)[4] for node in line)


@pytest.mark.parametrize("count", [-3, 0, 1, 6, 99])
def test_a_count_beyond_what_there_is_becomes_the_nearest(count: int) -> None:
    tree = grid_tree(np.arange(6.0).reshape(2, 3))
    assert len(np.unique(tree.cut(count))) == min(max(count, 1), 6)
