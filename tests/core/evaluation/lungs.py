"""Two rectangles that stand for lungs."""

from __future__ import annotations

import numpy as np


def two_lungs(shape: tuple[int, int] = (60, 80), shift: int = 0) -> np.ndarray:
    """Two rectangles of 30 x 20 pixels, the right lung on the left side, moved down by `shift`."""
    labels = np.zeros(shape, np.uint8)
    labels[10 + shift : 40 + shift, 10:30] = 1
    labels[10 + shift : 40 + shift, 45:65] = 2
    return labels
