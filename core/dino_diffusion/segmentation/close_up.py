"""Where in the chest a thin structure is looked for: a square of the chest's own frame.

A tube is one or two cells of the whole view wide and a hundredth of its area. Its examples say where in the
chest it lies; there the models look again, as they were trained to look at parts of radiographs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from dino_diffusion.crop import Box
from dino_diffusion.segmentation.chest_frame import ChestFrame

MARGIN = 0.3
"""Surroundings on each side of the structure, as a share of its extent."""

LEAST, MOST = 0.2, 0.45
"""Share of the picture's side: a smaller square is widened, a larger one shows no more than the whole."""

THICKEST = 0.03
"""Half the width of a thin structure at its widest, as a share of the picture's side. Thicker ones, such as a
heart, are found better by what lies around them."""

ASTRAY, RESCALED = 0.12, 0.2
"""How far lessons displace the square (standard deviation, in its sides) and resize it (log, at most)."""


@dataclass(frozen=True)
class CloseUp:
    """`across` and `down` say where its middle lies in the chest's frame; `side` is in the frame's mean unit.

    Raises ValueError for what is no such square.
    """

    across: float
    down: float
    side: float

    def __post_init__(self) -> None:
        numbers = (self.across, self.down, self.side)
        if not all(type(number) is float and math.isfinite(number) for number in numbers) or self.side <= 0:
            raise ValueError("a close-up has a finite place and a side above 0")

    @classmethod
    def around(cls, masks: Sequence[np.ndarray], chests: Sequence[ChestFrame]) -> CloseUp | None:
        """What holds the structure of each picture, `(S, S)` bool.

        None, which means the whole picture, where one is not thin, or the square no small part. A picture
        whose mask is empty says nothing.
        """
        pictures = [(mask, chest) for mask, chest in zip(masks, chests, strict=True) if mask.any()]
        if any(_half_width(mask) > THICKEST * len(mask) for mask, _ in pictures):
            return None
        middles, extents = zip(*(_spot(mask, chest) for mask, chest in pictures), strict=True)
        places = torch.stack(middles)
        low, high = places.amin(0), places.amax(0)
        across, down = ((low + high) / 2).tolist()
        found = cls(across, down, (1 + 2 * MARGIN) * max(extents) + float((high - low).max()))
        return found if all(found.share(chest) <= MOST for _, chest in pictures) else None

    def share(self, chest: ChestFrame) -> float:
        """Its side in one picture, as a share of the picture's."""
        return max(LEAST, self.side * _unit(chest) / 2)

    def box(self, chest: ChestFrame, side: int) -> Box:
        """The square in a picture of `side` pixels, moved inside where it would reach beyond."""
        place = torch.tensor([[self.across, self.down]]).to(chest.centre)
        pixels = round(min(1.0, self.share(chest)) * side)
        x, y = ((chest.points(place)[0].cpu() + 1) / 2 * side).tolist()
        left, top = (min(max(0, round(middle - pixels / 2)), side - pixels) for middle in (x, y))
        return Box(left, top, pixels)

    def astray(self, rng: np.random.Generator) -> CloseUp:
        """As if the chest's frame had been found a little wrong, as in another chest it may be."""
        across, down = rng.normal(0, ASTRAY * self.side, 2)
        side = self.side * math.exp(rng.uniform(-RESCALED, RESCALED))
        return replace(self, across=self.across + float(across), down=self.down + float(down), side=side)


def _spot(mask: np.ndarray, chest: ChestFrame) -> tuple[torch.Tensor, float]:
    """Where a picture's structure lies in its chest, `(2,)`, and how far it extends there."""
    rows, columns = (np.flatnonzero(mask.any(axis))[[0, -1]] + (0, 1) for axis in (1, 0))
    (top, bottom), (left, right) = rows * 2 / len(mask) - 1, columns * 2 / len(mask) - 1
    middle = chest.centre.new_tensor([(left + right) / 2, (top + bottom) / 2])
    place = chest.places(middle[None, None])[0, :, 0, 0].cpu()
    return place, float(max(bottom - top, right - left)) / _unit(chest)


def _half_width(mask: np.ndarray) -> float:
    return float(ndimage.distance_transform_edt(np.pad(mask, 1)).max())


def _unit(chest: ChestFrame) -> float:
    """The frame's mean unit in halves of the picture's side."""
    return float(chest.units.prod().sqrt())
