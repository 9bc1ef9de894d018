"""Pictures for the gallery: what the slice view shows, before and after, and the difference."""

from __future__ import annotations

import numpy as np
import slicer


def window_of(volume: slicer.vtkMRMLVolumeNode, array: np.ndarray) -> tuple[float, float]:
    """Darkest and brightest value that the display shows, else those of the image."""
    display = volume.GetDisplayNode()
    if display is not None and hasattr(display, "GetWindowLevelMin") and display.GetWindow() > 1e-6:
        return display.GetWindowLevelMin(), display.GetWindowLevelMax()
    return float(array.min()), float(array.max())


def grey(array: np.ndarray, window: tuple[float, float], side: int) -> np.ndarray:
    """uint8 `(rows, columns)` of one slice `(1, rows, columns)`, at most `side` long; pixels are averaged."""
    low, high = window
    plane = (array[0].astype(np.float32) - low) / max(high - low, 1e-6)
    return (smaller(plane, side).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def smaller(plane: np.ndarray, side: int) -> np.ndarray:
    """By averaging blocks of whole pixels; what does not fill a block is cut off."""
    factor = -(-max(plane.shape) // side)
    if factor <= 1:
        return plane
    rows, columns = (length // factor for length in plane.shape)
    cut = plane[: rows * factor, : columns * factor]
    return cut.reshape(rows, factor, columns, factor).mean(axis=(1, 3))


def swiped(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """`before` left of the line, `after` right of it; RGB with the line in it."""
    column = round(share * before.shape[1])
    joined = np.concatenate([before[:, :column], after[:, column:]], axis=1)
    picture = np.repeat(joined[..., None], 3, axis=2)
    if 0 < column < before.shape[1]:
        picture[:, column - 1 : column + 1] = (255, 210, 0)
    return picture


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The picture with what became brighter in red and what became darker in blue; RGB."""
    change = after.astype(np.int16) - before.astype(np.int16)
    strength = np.clip(np.abs(change)[..., None] * 3 / 255.0, 0, 1)
    colour = np.where((change > 0)[..., None], (255, 60, 40), (60, 120, 255))
    base = np.repeat((before * 0.6)[..., None], 3, axis=2)
    return (base * (1 - strength) + colour * strength).astype(np.uint8)
