"""What edges and ridges look like around a place: derivatives of the picture at two sizes.

They are what a bone's border, a vessel or a tube is to the eye, and thin structures are not drawn without
them: the denoiser's features have cells of eight pixels. A head learns from one film, so contrast is counted
in units of the film's own, around each place.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

SIZES = (1.5, 3.0)
"""Standard deviations of the Gaussians that are derived, in model pixels."""

DERIVATIVES = ((2, 0), (1, 1), (0, 2), (1, 0), (0, 1))
"""Orders down and across."""

SURROUNDINGS, LEAST_CONTRAST = 16, 0.02
"""Contrast is measured in a Gaussian of so many model pixels; below the least there is nothing to see."""

WIDTH = 1 + len(SIZES) * len(DERIVATIVES)


def local_shape(pixels: torch.Tensor) -> torch.Tensor:
    """Views `(B, 1, S, S)` to grey values and their derivatives, in local contrasts: `(B, WIDTH, S, S)`."""
    pictures = [_of(picture) for picture in pixels[:, 0].float().cpu().numpy()]
    return torch.from_numpy(np.stack(pictures)).to(pixels.device)


def _of(picture: np.ndarray) -> np.ndarray:
    shade = gaussian_filter(picture, SURROUNDINGS)
    contrast = np.sqrt(gaussian_filter((picture - shade) ** 2, SURROUNDINGS)) + LEAST_CONTRAST
    even = (picture - shade) / contrast
    # Each derivative times the size to its order: as large for a wide ridge as for a narrow one.
    derived = [
        size ** sum(order) * gaussian_filter(even, size, order) for size in SIZES for order in DERIVATIVES
    ]
    return np.stack([even, *derived])
