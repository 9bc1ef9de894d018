"""The model's view of a radiograph: square, padded, antialiased, robust grey values; and its inverse.

Used alike by training and by inference, so both see the same picture. Needs numpy and torch only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0
"""Grey values between these percentiles of the image span the model's range; letters and collimator
edges outside them would otherwise decide how bright the lungs look."""

HEADROOM = 0.05
"""The percentiles map to [HEADROOM, 1 - HEADROOM], so that modest outliers survive the round trip."""


@dataclass(frozen=True)
class GreyScale:
    """Affine map between an image's own grey values and the model's [0, 1]."""

    low: float
    high: float

    @classmethod
    def of(cls, pixels: np.ndarray) -> GreyScale:
        """Robust range of `pixels`; a constant image gets a range of one around its value."""
        low, high = np.percentile(pixels, (LOW_PERCENTILE, HIGH_PERCENTILE))
        if high - low < 1e-6:
            low, high = float(pixels.min()), float(pixels.max())
        if high - low < 1e-6:
            low, high = low - 0.5, low + 0.5
        return cls(float(low), float(high))

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Own grey values to [0, 1], clipped."""
        unit = pixels - self.low
        unit /= self.high - self.low
        unit *= 1 - 2 * HEADROOM
        unit += HEADROOM
        return np.clip(unit, 0, 1, out=unit).astype(np.float32, copy=False)

    def negative(self) -> GreyScale:
        """The map that shows dark as bright."""
        return GreyScale(self.high, self.low)

    def invert(self, normalised: np.ndarray) -> np.ndarray:
        """[0, 1] back to own grey values; exact where `apply` did not clip."""
        unit = (normalised - HEADROOM) / (1 - 2 * HEADROOM)
        return (unit * (self.high - self.low) + self.low).astype(np.float32)


@dataclass(frozen=True)
class SquareView:
    """Where a picture of `height` x `width` lies inside a centred square of `size` model pixels."""

    height: int
    width: int
    size: int

    @property
    def side(self) -> int:
        """Side of the padded square, in source pixels."""
        return max(self.height, self.width)

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Padding in source pixels: left, right, top, bottom."""
        left, top = (self.side - self.width) // 2, (self.side - self.height) // 2
        return left, self.side - self.width - left, top, self.side - self.height - top

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns that show the picture and not its padding, in model pixels; at least one each."""
        unit = self.size / self.side
        left, _, top, _ = self.pads
        first_row, first_column = round(top * unit), round(left * unit)
        return (
            slice(first_row, first_row + max(1, round(self.height * unit))),
            slice(first_column, first_column + max(1, round(self.width * unit))),
        )

    def resized(self, size: int) -> SquareView:
        """The same picture at another number of model pixels."""
        return SquareView(self.height, self.width, size)

    def to_model(self, pixels: np.ndarray) -> torch.Tensor:
        """`(H, W)` float to `(1, 1, size, size)`: padded with 0 (air), antialiased when shrinking."""
        picture = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None, None]
        left, right, top, bottom = self.pads
        # One axis at a time, the long one first: the padded square of a long strip might not fit in memory.
        if self.height >= self.width:
            lines = _resize(picture, (self.size, self.width))
            return _resize(functional.pad(lines, (left, right)), (self.size, self.size))
        lines = _resize(picture, (self.height, self.size))
        return _resize(functional.pad(lines, (0, 0, top, bottom)), (self.size, self.size))

    def to_source(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, C, h, w)` maps over the square, any resolution, to `(B, C, H, W)` on the source grid."""
        left, _, top, _ = self.pads
        height, width = maps.shape[-2:]
        # The padded axis first, so that nothing larger than the result is ever held.
        if self.height >= self.width:
            lines = _resize(maps, (height, self.side))[..., left : left + self.width]
            return _resize(lines, (self.side, self.width))
        lines = _resize(maps, (self.side, width))[..., top : top + self.height, :]
        return _resize(lines, (self.height, self.side))


@dataclass(frozen=True)
class ModelView:
    """A radiograph as the models see it, and the way back to its own grid.

    pixels: `(1, 1, size, size)` float32 in [0, 1].
    """

    pixels: torch.Tensor
    square: SquareView
    scale: GreyScale

    @classmethod
    def of(cls, pixels: np.ndarray, size: int = 256, negative: bool = False) -> ModelView:
        """View of an `(H, W)` picture: grey values normalised first, so that padding is air.

        `negative`: the picture shows bone dark; the view shows it bright.
        """
        square, scale = SquareView(pixels.shape[0], pixels.shape[1], size), GreyScale.of(pixels)
        if negative:
            scale = scale.negative()
        return cls(square.to_model(scale.apply(pixels)), square, scale)

    def to_source(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, C, h, w)` maps over the square, any resolution, to `(B, C, H, W)` on the source grid."""
        return self.square.to_source(maps)

    def grey_to_source(self, view_pixels: torch.Tensor) -> np.ndarray:
        """`(1, 1, h, w)` pixels in the model's grey to `(H, W)` float32 in the source's, within [0, 1].

        Exact where the normalisation did not clip and the sizes agree; else as sharp as the view was.
        """
        own_grid = self.to_source(view_pixels.detach().float().cpu())[0, 0].numpy()
        return np.clip(self.scale.invert(own_grid), 0, 1)


def resize(maps: torch.Tensor, size: int) -> torch.Tensor:
    """`(B, C, h, w)` to `(B, C, size, size)`: bilinear, antialiased, pixel centres aligned."""
    return _resize(maps, (size, size))


def _resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", antialias=True, align_corners=False)
