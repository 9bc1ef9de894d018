"""A square part of a radiograph: where it lies, how the models see it, and the way back to its own grid.

Training cuts such parts at random; in-place editing cuts one around a mask, to paint it at that resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.models.denoiser import Frame
from dino_diffusion.view import GreyScale, SquareView, resize

MARGIN = 0.5
"""Surroundings on each side of a mask, as a share of its extent."""

SMALLEST_SHARE = 1 / 3
"""Smallest part of a picture's side that training shows (`training.views.draw_box`)."""

NEARLY_WHOLE = 0.85
"""A part larger than this is the whole: models know whole pictures best."""


@dataclass(frozen=True)
class Box:
    """A square in the padded square of an image, in source pixels."""

    left: int
    top: int
    side: int

    def scaled(self, factor: float) -> Box:
        """The same square of an image that has `factor` times as many pixels along its side."""
        return Box(round(self.left * factor), round(self.top * factor), round(self.side * factor))


def whole(side: int) -> Box:
    """The whole padded square."""
    return Box(0, 0, side)


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


def box_around(mask: np.ndarray, least: int) -> Box:
    """A square around the true pixels of `(H, W)` with a margin, of `least` source pixels or more.

    It lies inside the padded square; one nearly as large is the whole. The mask must not be empty.
    """
    square = SquareView(mask.shape[0], mask.shape[1], least)
    left, _, top, _ = square.pads
    extents = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (0, 1)]
    (x0, x1), (y0, y1) = extents[0] + left, extents[1] + top
    wanted = (1 + 2 * MARGIN) * (max(x1 - x0, y1 - y0) + 1)
    side = round(max(wanted, least, SMALLEST_SHARE * square.side))
    if side >= NEARLY_WHOLE * square.side:
        return whole(square.side)

    def start(low: int, high: int) -> int:
        return min(max(0, (low + high + 1 - side) // 2), square.side - side)

    return Box(start(int(x0), int(x1)), start(int(y0), int(y1)), side)


@dataclass(frozen=True)
class Window:
    """A box of one radiograph, with its grey values: what `ModelView` is for the whole."""

    box: Box
    square: SquareView
    scale: GreyScale

    @classmethod
    def of(cls, pixels: np.ndarray, box: Box, size: int) -> Window:
        """Grey values are normalised over the whole picture, as in training."""
        return cls(box, SquareView(pixels.shape[0], pixels.shape[1], size), GreyScale.of(pixels))

    @property
    def frame(self) -> Frame:
        """The denoiser's description of it."""
        return frame_of(self.box, self.square.side, self.square.size)

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the picture that the box covers; the rest of the box is padding."""
        left, _, top, _ = self.square.pads
        rows, columns = (
            slice(max(0, start - pad), min(length, start + self.box.side - pad))
            for start, pad, length in (
                (self.box.top, top, self.square.height),
                (self.box.left, left, self.square.width),
            )
        )
        return rows, columns

    def grey_to_model(self, pixels: np.ndarray) -> torch.Tensor:
        """`(H, W)` in [0, 1] to the models' picture of the box, `(1, 1, size, size)`."""
        return self._to_model(self.scale.apply(pixels[self.region]))

    def map_to_model(self, values: np.ndarray) -> torch.Tensor:
        """A map `(H, W)` such as a mask to `(1, 1, size, size)`, averaged where the source is finer."""
        return self._to_model(values[self.region].astype(np.float32))

    def to_source(self, maps: torch.Tensor) -> np.ndarray:
        """`(B, C, h, w)` maps over the box, any resolution, to `(B, C, rows, columns)` of its `region`."""
        rows, columns = self._inner()
        # One axis at a time, so that nothing much larger than the result is ever held.
        tall = _enlarged(maps.float().cpu(), (self.box.side, maps.shape[-1]))[..., rows, :]
        return _enlarged(tall, (tall.shape[-2], self.box.side))[..., columns].numpy()

    def _to_model(self, part: np.ndarray) -> torch.Tensor:
        rows, columns = self._inner()
        side = self.box.side
        pads = (columns.start, side - columns.stop, rows.start, side - rows.stop)
        return resize(functional.pad(torch.from_numpy(part)[None, None], pads), self.square.size)

    def _inner(self) -> tuple[slice, slice]:
        """Rows and columns of the box that `region` fills."""
        left, _, top, _ = self.square.pads
        rows, columns = self.region
        row, column = top - self.box.top, left - self.box.left
        return slice(rows.start + row, rows.stop + row), slice(columns.start + column, columns.stop + column)


def _enlarged(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic: a change enlarged four times would show the corners of a bilinear one."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bicubic", antialias=True, align_corners=False)
