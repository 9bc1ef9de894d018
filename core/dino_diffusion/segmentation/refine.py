"""From the coarse grid of features to pixels: edges of the probability follow edges of the picture."""

from __future__ import annotations

import torch
from torch.nn import functional

RADIUS, SMOOTHNESS = 8, 1e-3
"""Window radius in pixels (one latent cell) and the variance below which the picture counts as flat."""


def guided_upsample(
    coarse: torch.Tensor, guide: torch.Tensor, radius: int = RADIUS, smoothness: float = SMOOTHNESS
) -> torch.Tensor:
    """Guided filter (He, Sun and Tang 2010): `coarse` (B, C, h, w) onto the grid of `guide` (B, 1, H, W).

    Within a window the result is an affine function of the guide, so it keeps the guide's edges and, where
    the guide is flat, the smoothed coarse map.
    """
    size = guide.shape[-2:]
    coarse = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    channels = coarse.shape[1]
    mean_guide, mean_coarse = box(guide, radius), box(coarse, radius)
    covariance = box(coarse * guide, radius) - mean_coarse * mean_guide
    variance = box(guide * guide, radius) - mean_guide.square()
    slope = covariance / (variance + smoothness)
    offset = mean_coarse - slope * mean_guide
    smooth = box(torch.cat([slope, offset], dim=1), radius)
    return (smooth[:, :channels] * guide + smooth[:, channels:]).clamp(0, 1)


def box(maps: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over a square window, smaller at the border."""
    return functional.avg_pool2d(maps, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
