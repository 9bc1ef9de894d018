"""Masks as examples: which labels they hold, what is wrong with them, what their shapes say."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from dino_diffusion.errors import EmbeddingError
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.view import ModelView

MOST_VALUES = 33
"""Different values of a mask, 0 included; a picture taken for a mask has more."""

SMALLEST = 8
"""Model pixels that a label must cover: less cannot be seen at the model's resolution."""

A_PART = 0.1
"""Regions below this share of a label's largest one are slips of the pen, no parts."""


def labels_in(mask: np.ndarray, radiograph: Radiograph) -> tuple[int, ...]:
    """Ascending label values of a mask `(H, W)`, none of an empty one. Raises EmbeddingError for what is no
    mask of the image."""
    name = radiograph.source.name
    if mask.shape != radiograph.shape:
        raise EmbeddingError(
            f"{name}: the mask has the shape {mask.shape}, the image {radiograph.shape}; draw it on the "
            "image's own grid."
        )
    if mask.dtype.kind not in "biuf":
        raise EmbeddingError(f"{name}: the mask holds no numbers; give whole label values from 0 to 255.")
    values = np.unique(mask)
    if len(values) > MOST_VALUES:
        raise EmbeddingError(
            f"{name}: the mask holds {len(values)} different values, so it looks like an image; give a "
            "labelmap, 0 for the background."
        )
    if np.any(values != np.clip(np.round(values.astype(float)), 0, 255)):
        raise EmbeddingError(
            f"{name}: the mask holds values that are no labels; give whole numbers from 0 to 255."
        )
    labels = tuple(int(value) for value in values if value)
    if 0 not in values:
        raise EmbeddingError(f"{name}: the mask covers the whole image; leave the background 0.")
    return labels


def targets_of(mask: np.ndarray, view: ModelView, labels: tuple[int, ...], name: str) -> torch.Tensor:
    """`(1, labels + 1, S, S)` over the view: background, then the share of each label; padding is background.

    Raises EmbeddingError for a label too small for the model's resolution.
    """
    maps = torch.cat([view.square.to_model(mask == label) for label in labels], dim=1)
    for label, area in zip(labels, maps.sum((0, 2, 3)).tolist(), strict=True):
        if 0 < area < SMALLEST:
            raise EmbeddingError(
                f"{name}: label {label} covers {area:.1f} of {view.square.size}² model pixels, too little to "
                "learn; crop the image closer, or draw a larger structure."
            )
    return torch.cat([(1 - maps.sum(1, keepdim=True)).clamp_min(0), maps], dim=1)


def parts_of(region: np.ndarray) -> int:
    """How many separate regions a bool mask `(H, W)` has, slips of the pen aside; at least 1."""
    found, count = ndimage.label(region, structure=np.ones((3, 3)))
    if not count:
        return 1
    areas = np.bincount(found.ravel())[1:]
    return int((areas >= A_PART * areas.max()).sum())


def has_holes(region: np.ndarray) -> bool:
    """Whether a bool mask `(H, W)` has a hole worth the name: A_PART of its area."""
    filled = ndimage.binary_fill_holes(region)
    return bool((filled & ~region).sum() > A_PART * region.sum())


def keep_parts(region: np.ndarray, parts: int, filled: bool, gap: int = 1) -> np.ndarray:
    """The `parts` largest regions of a bool mask `(H, W)`, their holes filled if `filled`.

    Regions at most 2 * `gap` pixels apart count as one: a thin structure must not lose what lies beyond a
    break in it.
    """
    joined = ndimage.binary_dilation(region, np.ones((3, 3)), iterations=gap) if gap else region
    found, count = ndimage.label(joined, structure=np.ones((3, 3)))
    if count > parts:
        areas = np.bincount(found[region], minlength=count + 1)
        areas[0] = 0
        region = region & np.isin(found, np.argsort(areas)[-parts:])
    return np.asarray(ndimage.binary_fill_holes(region)) if filled else region
