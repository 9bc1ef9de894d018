"""Putting what a model painted back into a radiograph whose own grain is finer than the model's pixels."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.signal import fftconvolve

from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.radiograph import Radiograph

TEXTURES = ("add", "replace")
"""add: the source plus what changed, so that its own grain stays, right for opacities and their removal.
replace: the painted picture with new grain, right where what was there must not shine through."""

RING_SHARE, EXEMPLAR_SIDE = 0.25, 512
"""Grain is learnt from a ring around the mask: its width as a share of the mask's extent, and the most of it
that is looked at, in pixels a side."""


class ChangedOutside(DinoDiffusionError):
    """An edit reached beyond its mask: a fault of this program, so nothing is written."""


def added(pixels: np.ndarray, change: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`pixels + weight * change` within [0, 1]; all `(H, W)`."""
    return np.clip(pixels + weight * change, 0, 1).astype(np.float32)


def replaced(pixels: np.ndarray, painted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """From `pixels` to `painted` by `weight`, within [0, 1]; all `(H, W)`."""
    return np.clip(pixels + weight * (painted - pixels), 0, 1).astype(np.float32)


def grain(residual: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise `(H, W)` with the variance and correlation of `residual` in a ring around the mask.

    Asymptotic discrete spot noise (Galerne, Gousseau and Morel, "Random phase textures", 2011): white noise
    convolved with the exemplar. `residual`: what the source has and the model's pixels cannot hold.
    """
    extent = max(int(np.ptp(found)) + 1 for found in np.nonzero(inside))
    width = max(2, round(RING_SHARE * extent))
    ring = binary_dilation(inside, iterations=width) & ~inside
    if not ring.any():
        return np.zeros_like(residual)
    rows, columns = (_densest(ring.sum(axis=axis), EXEMPLAR_SIDE) for axis in (1, 0))
    shown = ring[rows, columns]
    spot = np.where(shown, residual[rows, columns], 0)
    spot = np.where(shown, spot - spot.sum() / max(1, shown.sum()), 0) / np.sqrt(max(1, shown.sum()))
    noise = rng.standard_normal(residual.shape).astype(np.float32)
    return fftconvolve(noise, spot.astype(np.float32), mode="same").astype(np.float32)


def check_untouched(radiograph: Radiograph, stored: np.ndarray, inside: np.ndarray) -> int:
    """How many pixels outside the mask are identical in value and dtype: all. Raises ChangedOutside."""
    before, outside = radiograph.stored, ~inside
    same = before.dtype == stored.dtype and before.shape == stored.shape
    # Bytes, not values: a float's NaN or negative zero counts as what it is.
    if not (same and before[outside].tobytes() == stored[outside].tobytes()):
        raise ChangedOutside(
            f"{radiograph.source.name}: the edit changed pixels outside its mask, so it was thrown away; "
            "please report it, with the recipe."
        )
    return int(outside.sum())


def _densest(counts: np.ndarray, length: int) -> slice:
    """The `length` neighbours with the largest sum."""
    if len(counts) <= length:
        return slice(0, len(counts))
    sums = np.convolve(gaussian_filter(counts.astype(float), 1), np.ones(length), mode="valid")
    start = int(np.argmax(sums))
    return slice(start, start + length)
