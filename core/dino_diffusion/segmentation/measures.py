"""Quantities that a reader knows, taken from lung labels: how bright the lungs are, how wide the heart is."""

from __future__ import annotations

import numpy as np

from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG

FULL_WIDTH = 0.5
"""Rows count for the heart where each lung has this share of its greatest width: apices and the costophrenic
angles, where a lung lies beside no heart, do not."""


def opacity(pixels: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean grey of `(H, W)` pixels inside both lungs of `(H, W)` labels; None without lungs."""
    inside = (labels == RIGHT_LUNG) | (labels == LEFT_LUNG)
    return float(pixels[inside].mean()) if inside.any() else None


def cardiothoracic_ratio(labels: np.ndarray) -> float | None:
    """Width of the heart over the inner width of the chest, from `(H, W)` labels; None without two lungs.

    The heart is what lies between the lungs in the lower half of the lungs' height: from the point where the
    right lung's inner border is farthest to the patient's right, to that of the left lung farthest to the
    left. The chest is as wide as the lungs' outer borders are apart at most. As on film (Danzer 1919), but
    lungs that are outlined short of the heart make it wider: compare pictures, not patients.
    """
    right, left = labels == RIGHT_LUNG, labels == LEFT_LUNG
    rows = np.flatnonzero(right.any(1) & left.any(1))
    if not len(rows):
        return None
    middle = (rows[0] + rows[-1]) / 2
    widths = [lung.sum(1) for lung in (right, left)]
    full = [width >= FULL_WIDTH * width.max() for width in widths]
    beside = [row for row in rows if row >= middle and full[0][row] and full[1][row]]
    if not beside:
        return None
    columns = np.arange(labels.shape[1])
    inner_right = min(columns[right[row]].max() for row in beside)
    inner_left = max(columns[left[row]].min() for row in beside)
    chest = max(columns[left[row]].max() - columns[right[row]].min() for row in rows) + 1
    return float(max(0, inner_left - inner_right - 1) / chest)
