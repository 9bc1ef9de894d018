"""Lungs by brightness alone: what no model at all reaches."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG
from dino_diffusion.segmentation.shape import largest_region

OPENING = 1 / 128
"""Radius of the opening that parts touching regions, as a share of the picture's side."""


def threshold_lungs(pixels: np.ndarray) -> np.ndarray:
    """`(H, W)` in [0, 1] to labels `(H, W)` uint8: the two largest dark regions of the body.

    Otsu's threshold over the picture parts the body from air; a second one, inside the body, parts lungs
    from soft tissue. Of the two largest regions the one further to the left is the right lung.
    """
    labels = np.zeros(pixels.shape, np.uint8)
    if np.ptp(pixels) == 0:
        return labels
    body = ndimage.binary_fill_holes(largest_region(pixels > threshold_otsu(pixels)))
    inside = pixels[body]
    if not len(inside) or np.ptp(inside) == 0:
        return labels
    radius = max(1, round(OPENING * max(pixels.shape)))
    dark = ndimage.binary_opening(body & (pixels < threshold_otsu(inside)), iterations=radius)
    regions = sorted(regionprops(label(dark, connectivity=1)), key=lambda region: -region.area)[:2]
    for value, region in zip(
        (RIGHT_LUNG, LEFT_LUNG), sorted(regions, key=lambda region: region.centroid[1]), strict=False
    ):
        found = np.zeros(pixels.shape, bool)
        found[region.slice] = region.image_filled
        labels[found] = value
    return labels
