"""Which part of a training image a picture shows. Never flipped: left stays left."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.crop import Box
from dino_diffusion.view import GreyScale

MAX_ENLARGEMENT = 1.15
"""A picture made from fewer source pixels than this allows would teach blur."""


def square(pixels: np.ndarray) -> torch.Tensor:
    """`(H, W)` raw grey to `(1, 1, S, S)`: robust grey values in [0, 1], padded with 0 to a square."""
    normalised = torch.from_numpy(GreyScale.of(pixels).apply(pixels))[None, None]
    height, width = pixels.shape
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return functional.pad(normalised, (left, side - width - left, top, side - height - top))


def draw_box(rng: np.random.Generator, side: int, size: int) -> Box:
    """A random crop of at least `size / MAX_ENLARGEMENT` source pixels, half to all of the side."""
    smallest = min(side, max(int(np.ceil(size / MAX_ENLARGEMENT)), side // 3))
    crop = int(rng.integers(smallest, side + 1))
    return Box(int(rng.integers(0, side - crop + 1)), int(rng.integers(0, side - crop + 1)), crop)
