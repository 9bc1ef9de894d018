"""What edges and ridges look like around a place: derivatives of the picture at two sizes.

They are what a bone's border, a vessel or a tube is to the eye, and thin structures are not drawn without
them: the denoiser's features have cells of eight pixels. A head learns from one film, so contrast is counted
in units of the film's own, around each place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

SIZES = (1.5, 3.0)
"""Standard deviations of the Gaussians that are derived, in model pixels."""

DERIVATIVES = ((2, 0), (1, 1), (0, 2), (1, 0), (0, 1))
"""Orders down and across."""

SURROUNDINGS, LEAST_CONTRAST = 16, 0.02
"""Contrast is measured in a Gaussian of so many model pixels; below the least there is nothing to see."""

WIDTH = 1 + len(SIZES) * len(DERIVATIVES)


def local_shape(pixels: torch.Tensor) -> torch.Tensor:
    """Views `(B, 1, S, S)` to grey values and their derivatives, in local contrasts: `(B, WIDTH, S, S)`."""
    even = even_shades(pixels[:, 0].float())
    # Each derivative times the size to its order: as large for a wide ridge as for a narrow one.
    derived = [size ** sum(order) * gaussian(even, size, order) for size in SIZES for order in DERIVATIVES]
    return torch.stack([even, *derived], dim=1)


def even_shades(pictures: torch.Tensor, surroundings: float = SURROUNDINGS) -> torch.Tensor:
    """Grey values `(..., S, S)` without those of their surroundings, in units of the contrast there."""
    shades = pictures - gaussian(pictures, surroundings)
    contrast = gaussian(shades.square(), surroundings).clamp_min(0).sqrt() + LEAST_CONTRAST
    return shades / contrast


def gaussian(pictures: torch.Tensor, size: float, order: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """Squares `(..., S, S)` filtered by a Gaussian's derivative of that order down and across.

    As two products of matrices: of pictures this small many are filtered faster so than place by place.
    """
    down, across = (_filter(pictures.shape[-1], size, each).to(pictures) for each in order)
    return down @ pictures @ across.T


@lru_cache(maxsize=64)
def _filter(side: int, size: float, order: int) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter1d(np.eye(side, dtype=np.float32), size, 0, order))
