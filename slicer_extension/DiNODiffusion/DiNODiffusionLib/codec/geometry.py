"""An image with its place in space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOXEL_LIMIT = 1 << 29
"""Voxels of one file that are decoded at most: a file may claim any size in a few bytes."""


class NotAnImage(ValueError):
    """The bytes are no image of the wanted kind; the text is one sentence."""


@dataclass
class Image:
    """`array` is `(slices, rows, columns)`, `ijk_to_ras` 4x4 in mm, both as Slicer has them."""

    array: np.ndarray
    ijk_to_ras: np.ndarray

    def same_grid(self, other: Image, tolerance: float = 1e-3) -> bool:
        """Whether voxels of both lie on each other; `tolerance` in voxels at the far corner."""
        if self.array.shape != other.array.shape:
            return False
        far = np.array([[0, 0, 0, 1], [*(n - 1 for n in self.array.shape[::-1]), 1]], float).T
        apart = np.linalg.norm((self.ijk_to_ras @ far - other.ijk_to_ras @ far)[:3], axis=0).max()
        spacing = np.linalg.norm(self.ijk_to_ras[:3, :2], axis=0).min()
        return bool(apart <= tolerance * spacing)


def checked_size(shape: tuple[int, ...], bytes_each: int) -> int:
    """Bytes of an array of this shape.

    Raises:
        NotAnImage: the shape is empty or beyond all reason.
    """
    voxels = 1
    for length in shape:
        voxels *= int(length)
    if voxels <= 0 or voxels > VOXEL_LIMIT or min(shape) <= 0:
        raise NotAnImage(f"The image claims a size of {' x '.join(map(str, shape))}, which cannot be.")
    return voxels * bytes_each
