"""A word over a DICOM image that viewers can show and hide, in its own plane: the pixels stay as they are."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.pixel_data_handlers.util import pack_bits

from dino_diffusion.files.grid import Grid

GROUP = 0x6000
LARGEST, WIDEST = 1 / 16, 0.6
"""Height of the letters and width of the word, as shares of the picture's."""


def add_overlay(image: Dataset, grid: Grid, word: str) -> None:
    """Adds the first overlay plane (PS3.3, C.9.2) with `word` at the lower border of the upright picture."""
    plane = grid.stored_plane(written(word, grid.picture(np.zeros(grid.shape, bool)).shape))
    rows, columns = plane.shape
    for element, representation, value in (
        (0x0010, "US", rows),
        (0x0011, "US", columns),
        (0x0022, "LO", word),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x1500, "LO", word),
        (0x3000, "OW", pack_bits(plane.astype(np.uint8))),
    ):
        image.add_new(GROUP << 16 | element, representation, value)


def written(word: str, shape: tuple[int, ...]) -> np.ndarray:
    """`(H, W)` bool: the word in the middle of the lower border, as large as fits well."""
    height, width = shape
    size = max(6, round(height * LARGEST))
    font = ImageFont.load_default(size)
    if font.getlength(word) > WIDEST * width:
        font = ImageFont.load_default(max(6, int(size * WIDEST * width / font.getlength(word))))
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).text((width / 2, height - height / 40), word, font=font, fill=1, anchor="mb")
    return np.asarray(canvas)
