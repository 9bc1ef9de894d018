"""Stored pixel values to grey in [0, 1] (bright = dense) and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class GreyMap(Protocol):
    """How stored values are shown."""

    def shown(self, stored: np.ndarray) -> np.ndarray:
        """Stored values to float32 in [0, 1]."""

    def stored(self, shown: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """[0, 1] to stored values of `dtype`: the nearest ones that are shown so."""


@dataclass(frozen=True)
class LinearGrey:
    """`low` is black and `high` white, or the other way round where `inverted`."""

    low: float
    high: float
    inverted: bool = False

    def shown(self, stored: np.ndarray) -> np.ndarray:
        """Clipped linear map, computed in double precision."""
        unit = stored.astype(np.float64)
        # In place: a large detector's picture takes 160 MB in double precision.
        unit -= self.low
        unit /= self.high - self.low
        np.clip(unit, 0, 1, out=unit)
        if self.inverted:
            np.subtract(1, unit, out=unit)
        return unit.astype(np.float32)

    def stored(self, shown: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Inverse, rounded for integers; stays within [low, high]."""
        unit = np.clip(shown.astype(np.float64), 0, 1)
        values = self.low + (1 - unit if self.inverted else unit) * (self.high - self.low)
        return (np.rint(values) if np.issubdtype(dtype, np.integer) else values).astype(dtype)


@dataclass(frozen=True)
class TableGrey:
    """DICOM's rescale, lookup tables and window, tabulated: `table[v - first]` is how value v is shown.

    `table` is float32 in [0, 1] with one entry for every value the stored bits can hold. Where the window
    clips, many stored values are shown alike; the way back takes the one at the window's edge.
    """

    table: np.ndarray
    first: int

    def shown(self, stored: np.ndarray) -> np.ndarray:
        """Table look-up; values beyond the stored bits count as the nearest that fits."""
        index = stored.astype(np.int32)
        index -= self.first
        np.clip(index, 0, len(self.table) - 1, out=index)
        return self.table[index]

    def stored(self, shown: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The stored value whose grey is nearest, within the range of the window."""
        greys, first_index = np.unique(self.table, return_index=True)
        last_index = len(self.table) - 1 - np.unique(self.table[::-1], return_index=True)[1]
        rising = first_index[-1] > last_index[0]
        index = np.where(rising, first_index, last_index)
        index[0] = last_index[0] if rising else first_index[0]
        wanted = np.clip(shown, 0, 1).astype(np.float32)
        above = np.clip(np.searchsorted(greys, wanted), 1, len(greys) - 1)
        nearer_below = wanted - greys[above - 1] < greys[above] - wanted
        return (index[np.where(nearer_below, above - 1, above)] + self.first).astype(dtype)


def range_of(stored: np.ndarray, inverted: bool = False) -> LinearGrey:
    """Full range for 8 bits, else the range of the data: 10, 12 or 14 bits often lie in 16."""
    if stored.dtype == np.uint8:
        return LinearGrey(0, 255, inverted)
    return LinearGrey(float(stored.min()), float(stored.max()), inverted)
