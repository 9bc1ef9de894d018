"""Edges and ridges as a head sees them."""

from __future__ import annotations

import torch

from dino_diffusion.segmentation.local_shape import DERIVATIVES, SIZES, WIDTH, local_shape


def bar(level: float = 0.8, ground: float = 0.3) -> torch.Tensor:
    """A bright upright bar, 6 pixels wide."""
    pixels = torch.full((1, 1, 96, 96), ground)
    pixels[..., 45:51] = level
    return pixels


def channel(size: float, order: tuple[int, int]) -> int:
    return 1 + SIZES.index(size) * len(DERIVATIVES) + DERIVATIVES.index(order)


def test_a_ridge_is_told_with_its_direction() -> None:
    seen = local_shape(bar())
    assert seen.shape == (1, WIDTH, 96, 96)
    across, along = (seen[0, channel(3.0, order), 48, 47] for order in ((0, 2), (2, 0)))
    assert across < -1 and abs(along) < 0.01 * abs(across)
    assert seen[0, channel(1.5, (0, 1)), 48, 45] > 0.5 > -0.5 > seen[0, channel(1.5, (0, 1)), 48, 50]


def test_the_films_own_contrast_does_not_count() -> None:
    torch.testing.assert_close(local_shape(bar()), local_shape(bar(0.55)), atol=0.3, rtol=0.2)


def test_a_picture_of_one_grey_has_no_shape() -> None:
    assert local_shape(torch.full((2, 1, 32, 32), 0.5)).abs().max() < 1e-4
