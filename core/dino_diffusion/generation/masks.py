"""Edit masks: what may change, how strongly, and how softly the change begins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from dino_diffusion.errors import RadiographError
from dino_diffusion.models import EncoderOutput
from dino_diffusion.models.autoencoder import FACTOR
from dino_diffusion.radiograph import Radiograph

ASSUMED_FIELD_MM = 400.0
"""Length of the longer side of a radiograph that does not say how large its pixels are."""

VISIBLE_SHARE = 0.5
"""A pooled patch token stays where at least this share of its patches is free of the mask."""

THINNEST = 1e-3
"""Feathers below this, in the unit of the pixel size, are none."""

LEVELS = 255
"""A soft mask is told apart in as many steps, so that an 8-bit picture can hold it."""


@dataclass(frozen=True, eq=False)
class EditMask:
    """`levels` (H, W) uint8 on the radiograph's grid: the share of the strength, 255 all, 0 untouched."""

    levels: np.ndarray

    @classmethod
    def of(cls, radiograph: Radiograph, mask: np.ndarray, keep: np.ndarray | None = None) -> EditMask:
        """The mask without what is to be kept (separate masks for both: RadEdit, ECCV 2024).

        Both `(H, W)`, upright: bool or whole numbers where not 0 is inside, or a soft edit mask of floats in
        [0, 1]. Raises RadiographError, one sentence, where one does not fit or nothing is left to edit.
        """
        name = radiograph.source.name
        for role, array in (("mask", mask), ("keep mask", keep)):
            if array is not None and array.shape != radiograph.shape:
                shapes = (" x ".join(map(str, reversed(shape))) for shape in (array.shape, radiograph.shape))
                given, own = shapes
                raise RadiographError(
                    f"{name}: the {role} has {given} pixels, the image {own}; draw it on the image's grid."
                )
        if mask.dtype.kind == "f":
            if not (np.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1):
                raise RadiographError(f"{name}: a soft mask holds shares from 0 to 1; scale it first.")
            levels = np.rint(mask * LEVELS).astype(np.uint8)
        else:
            levels = np.where(mask != 0, LEVELS, 0).astype(np.uint8)
        if not levels.any():
            raise RadiographError(f"{name}: the mask is empty; mark what to change.")
        if keep is not None:
            levels[keep != 0] = 0
            if not levels.any():
                raise RadiographError(
                    f"{name}: the keep mask covers all of the mask, so nothing is left to change; shrink it."
                )
        return cls(levels)

    @property
    def inside(self) -> np.ndarray:
        """`(H, W)` bool: what may change at all. This is the ground truth of a painted lesion."""
        return self.levels > 0

    @property
    def sha256(self) -> str:
        """Of shape and content: recipes refer to it, whatever file the mask came from."""
        return hashlib.sha256(repr(self.levels.shape).encode() + self.levels.tobytes()).hexdigest()


def pixel_size_mm(radiograph: Radiograph) -> tuple[float, float]:
    """Row and column distance; where the file gives none, the longer side counts as 400 mm."""
    assumed = ASSUMED_FIELD_MM / max(radiograph.shape)
    return radiograph.spacing_mm or (assumed, assumed)


def feathered(inside: np.ndarray, width: float, pixel_size: tuple[float, float]) -> np.ndarray:
    """Weight `(H, W)` float32 of the change: 0 outside, rising inside from the border to 1 at depth `width`.

    `width` in the unit of `pixel_size` (row, column). A mask too thin for it gets a narrower feather, so that
    its middle still changes fully. The picture's own edge is no border.
    """
    if inside.all() or width < THINNEST:
        return inside.astype(np.float32)
    weight = np.zeros(inside.shape, np.float32)
    part = _bounding_box(inside)
    depth = np.asarray(distance_transform_edt(inside[part], sampling=pixel_size), dtype=np.float32)
    share = np.clip(depth / min(width, 0.5 * float(depth.max())), 0, 1)
    weight[part] = share * share * (3 - 2 * share)
    return weight


def on_latents(shares: torch.Tensor) -> torch.Tensor:
    """`(1, 1, S, S)` shares on the model's picture, averaged over each latent's cell: `(1, 1, S/8, S/8)`."""
    return functional.avg_pool2d(shares, FACTOR)


def surroundings(
    encoded: EncoderOutput, covered: torch.Tensor, grid: int
) -> tuple[EncoderOutput, torch.Tensor]:
    """What the patch tokens around a mask say, and which pooled tokens are left, `(1, grid * grid)` bool.

    `covered` (1, 1, S, S) in [0, 1]. A patch that the mask touches speaks for what is to go; it takes the
    mean of the free patches of its pooled token, so that this token speaks for them alone.
    """
    rows, columns = encoded.patches.shape[-2:]
    free = (functional.adaptive_max_pool2d(covered, (rows, columns)) < 0.5).to(encoded.patches)
    share = functional.adaptive_avg_pool2d(free, grid)
    mean = functional.adaptive_avg_pool2d(encoded.patches * free, grid) / share.clamp_min(1e-6)
    filled = functional.interpolate(mean, (rows, columns), mode="nearest")
    patches = torch.where(free > 0, encoded.patches, filled)
    return EncoderOutput(encoded.cls, patches), (share >= VISIBLE_SHARE).flatten(1)


def _bounding_box(inside: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around the true pixels, with one pixel of the outside where there is one."""
    bounds = []
    for axis in (1, 0):
        found = np.flatnonzero(inside.any(axis=axis))
        bounds.append(slice(max(0, int(found[0]) - 1), int(found[-1]) + 2))
    return bounds[0], bounds[1]
