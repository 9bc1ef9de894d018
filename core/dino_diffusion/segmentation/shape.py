"""From a lung probability to two lungs: the mediastinum parts them, the largest part of each side stays."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MEDIASTINUM = (0.36, 0.64)
"""The column that parts the lungs is looked for between these fractions of the width."""


def part_lungs(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """`(H, W)` probability of lung to labels `(H, W)` uint8: 1 right, 2 left.

    The parting column is the one with the least lung in the middle of the picture. Holes are filled, and
    on each side only the largest connected region is kept.
    """
    width = probability.shape[1]
    low, high = (round(share * width) for share in MEDIASTINUM)
    # Several columns are often free of lung: their middle is the safest.
    amount = ndimage.gaussian_filter1d(probability.sum(0), width / 32)
    parting = low + int(amount[low:high].argmin())
    labels = np.zeros(probability.shape, dtype=np.uint8)
    lung = probability > threshold
    for value, side in ((1, slice(None, parting)), (2, slice(parting, None))):
        region = largest_region(lung[:, side])
        labels[:, side][ndimage.binary_fill_holes(region)] = value
    return labels


def largest_region(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected region of a bool mask; all false if there is none."""
    regions, count = ndimage.label(mask)
    if not count:
        return np.zeros_like(mask)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return regions == sizes.argmax()
