"""Radiographs as they also come: turned, inverted, bordered, lettered, squashed, small, large, mirrored.

Each alteration takes a picture `(H, W)` in [0, 1] and its labels `(H, W)` uint8, and returns both altered
alike, on a grid of their own. Nothing is random: the same picture is always altered the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.transform import rotate as rotated

Altered = tuple[np.ndarray, np.ndarray]
Alteration = Callable[[np.ndarray, np.ndarray], Altered]

BORDER, ONE_SIDE = 0.12, 0.25
"""Width of a black border as a share of the picture's side."""

SWAPPED_SIDES = np.array([0, 2, 1, 6, 7, 8, 3, 4, 5, *range(9, 256)], dtype=np.uint8)
"""Each label's counterpart on the other side: lungs 1 and 2, zones 3-5 and 6-8."""


def rotate(pixels: np.ndarray, labels: np.ndarray, degrees: float) -> Altered:
    """About the centre, counter-clockwise, on the same grid; what comes in from outside is black."""
    turned = rotated(pixels, degrees, order=1, mode="constant", cval=0)
    turned_labels = rotated(labels, degrees, order=0, mode="constant", cval=0, preserve_range=True)
    return turned.astype(np.float32), turned_labels.astype(np.uint8)


def invert(pixels: np.ndarray, labels: np.ndarray) -> Altered:
    """Black on white, as files come whose header (MONOCHROME1) was lost."""
    return 1 - pixels, labels


def border(pixels: np.ndarray, labels: np.ndarray, sides: tuple[float, float, float, float]) -> Altered:
    """Black around the picture, as beyond a collimator: shares of its height above and below, of its width
    to the left and right."""
    height, width = pixels.shape
    above, below, left, right = sides
    pad = (
        (round(above * height), round(below * height)),
        (round(left * width), round(right * width)),
    )
    return np.pad(pixels, pad), np.pad(labels, pad)


def letter(pixels: np.ndarray, labels: np.ndarray) -> Altered:
    """Side marker, projection, date and a box burnt in white, partly over the lungs' upper corners."""
    height, width = pixels.shape
    side = min(height, width)
    ink = Image.new("L", (width, height))
    draw = ImageDraw.Draw(ink)

    def text(words: str, x: float, y: float, size: float, anchor: str) -> None:
        font = ImageFont.load_default(max(6, size * side))
        draw.text((x * width, y * height), words, font=font, fill=255, anchor=anchor)

    text("R", 0.06, 0.05, 0.11, "lt")
    text("AP SUPINE", 0.97, 0.04, 0.05, "rt")
    text("80 kV  2 mAs", 0.97, 0.11, 0.035, "rt")
    text("2020-01-01 12:34", 0.03, 0.97, 0.045, "ls")
    draw.rectangle((0.8 * width, 0.9 * height, 0.97 * width, 0.97 * height), fill=255)
    return np.maximum(pixels, np.asarray(ink, dtype=np.float32) / 255), labels


def squash(pixels: np.ndarray, labels: np.ndarray, aspect: float) -> Altered:
    """Width over height becomes `aspect`, the longer side stays: the picture's proportions change."""
    longest = max(pixels.shape)
    size = (round(longest / max(1.0, 1 / aspect)), round(longest / max(1.0, aspect)))
    return _resized(pixels, labels, size)


def fill_up(pixels: np.ndarray, labels: np.ndarray, aspect: float) -> Altered:
    """Width over height becomes `aspect` by black stripes on two sides."""
    height, width = pixels.shape
    across = max(0.0, height * aspect / width - 1) / 2
    down = max(0.0, width / aspect / height - 1) / 2
    return border(pixels, labels, (down, down, across, across))


def resample(pixels: np.ndarray, labels: np.ndarray, longest_side: int) -> Altered:
    """To `longest_side` pixels, proportions kept."""
    height, width = pixels.shape
    scale = longest_side / max(height, width)
    return _resized(pixels, labels, (max(1, round(width * scale)), max(1, round(height * scale))))


def mirror(pixels: np.ndarray, labels: np.ndarray) -> Altered:
    """Left for right. The labels follow the picture, not the patient: whatever lies on its left is the right
    lung, as the program labels it (it warns of a mirrored film and never swaps)."""
    return np.ascontiguousarray(pixels[:, ::-1]), SWAPPED_SIDES[labels[:, ::-1]]


ODD_INPUT: dict[str, Alteration] = {
    **{
        f"rotated by {degrees:+d} degrees": partial(rotate, degrees=degrees)
        for degrees in (-15, -10, -5, 5, 10, 15)
    },
    "inverted grey values": invert,
    "black border": partial(border, sides=(BORDER, BORDER, BORDER, BORDER)),
    "black border on one side": partial(border, sides=(0, 0, ONE_SIDE, 0)),
    "burnt-in letters": letter,
    "squashed to 4:3": partial(squash, aspect=4 / 3),
    "squashed to 3:4": partial(squash, aspect=3 / 4),
    "filled up to 4:3": partial(fill_up, aspect=4 / 3),
    "filled up to 3:4": partial(fill_up, aspect=3 / 4),
    **{f"{side} pixels": partial(resample, longest_side=side) for side in (200, 1000, 2000, 4000)},
    "mirrored": mirror,
}
"""What a program must bear, by name."""


def _resized(pixels: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> Altered:
    """To `size` (width, height); antialiased where it shrinks."""
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    resized = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    return resized, np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
