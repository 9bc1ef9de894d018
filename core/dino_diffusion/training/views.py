"""Which part of a training image a picture shows, and the picture. Never flipped: left stays left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.models.denoiser import Frame
from dino_diffusion.view import GreyScale, resize

MAX_ENLARGEMENT = 1.15
"""A picture made from fewer source pixels than this allows would teach blur."""


@dataclass(frozen=True)
class Box:
    """A square in the padded square of an image, in source pixels."""

    left: int
    top: int
    side: int


def square(pixels: np.ndarray) -> torch.Tensor:
    """`(H, W)` raw grey to `(1, 1, S, S)`: robust grey values in [0, 1], padded with 0 to a square."""
    normalised = torch.from_numpy(GreyScale.of(pixels).apply(pixels))[None, None]
    height, width = pixels.shape
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return functional.pad(normalised, (left, side - width - left, top, side - height - top))


def whole(side: int) -> Box:
    """The whole padded square."""
    return Box(0, 0, side)


def draw_box(rng: np.random.Generator, side: int, size: int) -> Box:
    """A random crop of at least `size / MAX_ENLARGEMENT` source pixels, half to all of the side."""
    smallest = min(side, max(int(np.ceil(size / MAX_ENLARGEMENT)), side // 3))
    crop = int(rng.integers(smallest, side + 1))
    return Box(int(rng.integers(0, side - crop + 1)), int(rng.integers(0, side - crop + 1)), crop)


def cut(picture: torch.Tensor, box: Box, size: int) -> torch.Tensor:
    """The box of `(1, 1, S, S)` at `size` pixels: `(1, 1, size, size)`."""
    part = picture[..., box.top : box.top + box.side, box.left : box.left + box.side]
    return resize(part, size)


def frame_of(box: Box, side: int, size: int) -> Frame:
    """The denoiser's description of a box in an image of `side` source pixels."""
    return Frame(
        left=box.left / side,
        top=box.top / side,
        right=(box.left + box.side) / side,
        bottom=(box.top + box.side) / side,
        source_side=box.side,
        size=size,
    )
