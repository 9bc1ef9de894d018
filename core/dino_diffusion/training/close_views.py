"""The denoiser's features at twice the resolution: of overlapping quarters of a picture, joined on one grid.

The denoiser was trained on parts of radiographs too (`frame_of` says which), so a part is nothing new to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from dino_diffusion.crop import Box, frame_of

FINER = 2
"""The whole picture's side in sides of a part."""

FADED = 0.02
"""Weight of a part's outermost cells, those in its middle having 1: seams do not show."""

Look = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Pictures `(N, 1, S, S)` and their frames `(N, 6)` to features `(N, channels, g, g)`."""


def close_features(picture: torch.Tensor, source_side: int, look: Look) -> torch.Tensor:
    """`(1, channels, FINER g, FINER g)` of a whole picture `(1, 1, FINER S, FINER S)`.

    `source_side`: pixels along the side of the file's padded square, which the denoiser is told of.
    """
    size = picture.shape[-1] // FINER
    boxes = [Box(left, top, size) for top, left in _corners(size)]
    parts = torch.cat([picture[..., box.top : box.top + size, box.left : box.left + size] for box in boxes])
    told = (box.scaled(source_side / (FINER * size)) for box in boxes)
    frames = torch.tensor([frame_of(box, source_side, size).numbers() for box in told])
    features = look(parts, frames)
    grid = features.shape[-1]
    line = torch.hann_window(grid + 2, periodic=False, device=features.device)[1:-1] + FADED
    weight = line[:, None] * line
    joined = features.new_zeros(features.shape[1] + 1, FINER * grid, FINER * grid)
    for part, (top, left) in zip(features, _corners(grid), strict=True):
        joined[:-1, top : top + grid, left : left + grid] += part * weight
        joined[-1, top : top + grid, left : left + grid] += weight
    return (joined[:-1] / joined[-1])[None]


def _corners(size: int) -> Iterator[tuple[int, int]]:
    """Top and left of each part; neighbours share a half."""
    starts = range(0, (FINER - 1) * size + 1, size // 2)
    return ((top, left) for top in starts for left in starts)
