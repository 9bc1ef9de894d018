"""Where the picture a person looks at lies inside the array a file stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RIGHT_TO_LEFT, HEAD_TO_FOOT, FRONT_TO_BACK = (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)
"""Axes of the patient in DICOM's coordinates (x to the left, y to the back, z to the head)."""


@dataclass(frozen=True)
class Geometry:
    """Position in the patient, mm, in ITK's order (x, y, z) and DICOM's axes; `direction` is row-major."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    def axis(self, index: int) -> np.ndarray:
        """Unit vector of image axis `index` (0: fastest in memory), padded to three numbers."""
        size = len(self.spacing)
        column = np.asarray(self.direction, dtype=float).reshape(size, size)[:, index]
        return np.pad(column, (0, 3 - size)) if size < 3 else column[:3]


@dataclass(frozen=True)
class Grid:
    """A stored array of `shape` (numpy order, at most two axes longer than 1) and its upright picture.

    The picture is the stored plane, transposed and then flipped where the file says how it lies in the
    patient. Both directions are exact: nothing is resampled.
    """

    shape: tuple[int, ...]
    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def plane(self) -> tuple[int, int]:
        """The two array axes that span the picture, before transposition: rows, columns."""
        long = [axis for axis, length in enumerate(self.shape) if length > 1]
        for axis in reversed(range(len(self.shape))):
            if len(long) < 2 and axis not in long:
                long.append(axis)
        first, second = sorted(long)
        return first, second

    def picture(self, stored: np.ndarray) -> np.ndarray:
        """Stored array to the upright `(H, W)` picture."""
        first, second = self.plane
        plane = stored.reshape(self.shape[first], self.shape[second])
        plane = plane.T if self.transpose else plane
        plane = plane[::-1] if self.flip_rows else plane
        return np.ascontiguousarray(plane[:, ::-1] if self.flip_columns else plane)

    def stored(self, picture: np.ndarray) -> np.ndarray:
        """Upright `(H, W)` picture back to the stored array's shape; the inverse of `picture`."""
        plane = picture[:, ::-1] if self.flip_columns else picture
        plane = plane[::-1] if self.flip_rows else plane
        plane = plane.T if self.transpose else plane
        return np.ascontiguousarray(plane).reshape(self.shape)

    def upright_place(self, row: int, column: int) -> tuple[int, int]:
        """Row and column in the upright picture of a pixel of the stored plane."""
        first, second = self.plane
        height, width = self.shape[first], self.shape[second]
        if self.transpose:
            row, column, height, width = column, row, width, height
        return (
            height - 1 - row if self.flip_rows else row,
            width - 1 - column if self.flip_columns else column,
        )

    def stored_plane(self, picture: np.ndarray) -> np.ndarray:
        """Upright picture to the stored plane without its axes of length one."""
        first, second = self.plane
        return self.stored(picture).reshape(self.shape[first], self.shape[second])


def upright(shape: Sequence[int], rows: np.ndarray, columns: np.ndarray) -> Grid:
    """Grid of an array whose plane runs along `rows` (down the memory) and `columns` in the patient.

    A frontal picture is upright with the head up and the patient's right on the left, a lateral one with
    the head up. A plane across the patient cannot be a radiograph's: such geometry is what tools write
    when they know none, so the order in memory stands.
    """
    head = np.asarray(HEAD_TO_FOOT)
    vertical_rows, vertical_columns = abs(float(rows @ head)), abs(float(columns @ head))
    if max(vertical_rows, vertical_columns) < 0.7:
        return Grid(tuple(shape))
    transpose = vertical_columns > vertical_rows
    down, across = (columns, rows) if transpose else (rows, columns)
    reference = RIGHT_TO_LEFT if abs(across[0]) >= abs(across[1]) else FRONT_TO_BACK
    return Grid(
        tuple(shape),
        transpose=transpose,
        flip_rows=float(down @ head) < 0,
        flip_columns=float(across @ np.asarray(reference)) < 0,
    )
