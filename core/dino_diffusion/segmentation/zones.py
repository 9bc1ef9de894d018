"""Upper, middle and lower zone of each lung field: thirds of its height, as radiologists report.

On a frontal radiograph the anatomical lobes overlap; zones are what it can show.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG, SEGMENTS
from dino_diffusion.radiograph import Labelmap

FIRST_ZONE = {RIGHT_LUNG: 3, LEFT_LUNG: 6}
"""Label of each lung's upper zone; middle and lower follow."""

ZONES = 3


def lung_zones(labels: np.ndarray) -> np.ndarray:
    """Labels 1 and 2 of `(H, W)` replaced by 3-5 (right upper, middle, lower) and 6-8 (left).

    Each lung is measured by itself, from its highest to its lowest row; other labels stay.
    """
    zoned = labels.copy()
    for lung, first in FIRST_ZONE.items():
        rows, columns = np.nonzero(labels == lung)
        if len(rows):
            top, height = rows.min(), rows.max() - rows.min() + 1
            zoned[rows, columns] = first + (rows - top) * ZONES // height
    return zoned


def zoned(labelmap: Labelmap) -> Labelmap:
    """The labelmap with zones in place of the lungs."""
    zones = (range(first, first + ZONES) for first in FIRST_ZONE.values())
    names = {value: name for value, name in labelmap.names.items() if value not in FIRST_ZONE}
    names |= {value: SEGMENTS[value].name for values in zones for value in values}
    return replace(labelmap, labels=lung_zones(labelmap.labels), names=names)
