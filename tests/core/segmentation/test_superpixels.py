"""Small pieces follow edges, fill the picture, and reach finer and coarser grids."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dino_diffusion.segmentation.superpixels import enlarge, neighbours, superpixels
from tests.tiny import smooth_picture


def slanted_edge(height: int, width: int) -> np.ndarray:
    rows, columns = (np.arange(n) + 0.5 for n in (height, width))
    return (columns[None] / width > 0.3 + 0.2 * rows[:, None] / height).astype(np.float32)


def test_pieces_are_connected_and_about_as_large_as_asked() -> None:
    pieces = superpixels(smooth_picture(0, 64, 48), 8)
    assert sorted(np.unique(pieces)) == list(range(8 * 6))
    assert all(ndimage.label(pieces == piece)[1] == 1 for piece in range(48))


def test_no_piece_crosses_a_sharp_edge() -> None:
    edge = slanted_edge(64, 64)
    pieces = superpixels(edge, 8)
    wrong = sum(min((edge[pieces == piece] == side).sum() for side in (0, 1)) for piece in np.unique(pieces))
    assert wrong < 64  # a pixel a row, of 4096


@pytest.mark.parametrize("shape", [(1, 64), (64, 2), (3, 3)])
def test_a_strip_has_pieces_too(shape: tuple[int, int]) -> None:
    pieces = superpixels(np.random.default_rng(0).random(shape).astype(np.float32), 8)
    assert pieces.shape == shape and pieces.min() == 0


def test_enlarging_follows_the_finer_picture() -> None:
    coarse, fine = slanted_edge(32, 32), slanted_edge(100, 90)
    labels = enlarge((coarse > 0.5).astype(int), coarse, fine)
    nearest = (coarse > 0.5)[np.ix_(np.arange(100) * 32 // 100, np.arange(90) * 32 // 90)]
    assert (labels != fine).mean() < 0.6 * (nearest != fine).mean()


def test_on_its_own_grid_nothing_changes() -> None:
    picture = smooth_picture(1, 40, 56)
    pieces = superpixels(picture, 8)
    assert (enlarge(pieces, picture, picture) == pieces).all()


def test_neighbours_share_a_border() -> None:
    pieces = np.array([[0, 0, 1], [2, 2, 1]])
    assert neighbours(pieces).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert neighbours(np.zeros((2, 2), int)).shape == (0, 2)
