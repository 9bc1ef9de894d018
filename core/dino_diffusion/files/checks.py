"""What every radiograph must satisfy, whatever its format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dino_diffusion.errors import RadiographError

MINIMUM_SIDE = 16
MAXIMUM_SIDE = 12_000
MAXIMUM_PIXELS = 80_000_000
"""The largest detectors have about 20 million pixels; stitched spines about 40."""

COLOUR_DIFFERENCE, COLOUR_SHARE = 12 / 255, 0.01
"""A picture is in colour where more than this share of pixels differs by more than this between channels;
below lie compression noise and a coloured letter."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601."""


def check_name(path: Path) -> None:
    """Refuse a name that is no UTF-8, as old Latin-1 disks hold: ITK ends the whole process over it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise RadiographError(
            f"{path}: a file or folder name with letters that are not UTF-8; rename it."
        ) from error


def check_size(name: str, height: int, width: int) -> None:
    """Refuse a picture no model can use, or that would fill the memory; call before decoding."""
    if min(height, width) < MINIMUM_SIDE:
        raise RadiographError(
            f"{name}: the image is {width} x {height} pixels; give one of at least {MINIMUM_SIDE} a side."
        )
    if max(height, width) > MAXIMUM_SIDE or height * width > MAXIMUM_PIXELS:
        raise RadiographError(
            f"{name}: the image is {width} x {height} pixels; give one of at most {MAXIMUM_SIDE} a side and "
            f"{MAXIMUM_PIXELS // 1_000_000} million pixels."
        )


def check_content(name: str, pixels: np.ndarray) -> None:
    """Refuse values that are not numbers, and a picture that shows nothing."""
    if pixels.dtype.kind not in "uif":
        raise RadiographError(
            f"{name}: pixels of type {pixels.dtype} are not grey values; convert the image to grey first."
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise RadiographError(
            f"{name}: some pixels are NaN or infinite; replace them by the background's value first."
        )
    if pixels.min() == pixels.max():
        raise RadiographError(
            f"{name}: every pixel has the value {pixels.flat[0]}, so nothing is to be seen; export it again."
        )


def grey_of(name: str, colour: np.ndarray) -> np.ndarray:
    """Channels `(..., 3)` that really show grey, as one channel of the same dtype.

    Equal channels come back exactly, small differences as luma (ITU-R BT.601).
    Raises RadiographError for a picture in colour.
    """
    first = colour[..., 0]
    if all(np.array_equal(first, colour[..., channel]) for channel in (1, 2)):
        return np.ascontiguousarray(first)
    low, high = float(colour.min()), float(colour.max())
    scale = 255.0 if colour.dtype == np.uint8 else high - low
    # Channel by channel: reducing an axis of three takes several times as long.
    red, green, blue = (colour[..., channel].astype(np.float32) for channel in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if (spread > COLOUR_DIFFERENCE * scale).mean() > COLOUR_SHARE:
        raise RadiographError(
            f"{name}: this is a picture in colour, not a radiograph; give the grey image of the detector."
        )
    luma = colour.astype(np.float64) @ np.asarray(LUMA)
    return (np.rint(luma) if colour.dtype.kind in "ui" else luma).astype(colour.dtype)
