"""TIFF with 8, 16 or 32 bits, signed or not, or floating point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import tifffile

from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.checks import check_size, grey_of
from dino_diffusion.files.grid import Grid
from dino_diffusion.files.read import Decoded
from dino_diffusion.files.read_volume import quiet_itk

LOSSY = ("JPEG", "OJPEG", "WEBP", "JPEG2000")


def read_tiff(path: Path) -> Decoded:
    """Header through tifffile, which also decodes what needs no codec; the rest through ITK."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        check_size(str(path), page.imagelength, page.imagewidth)
        if len(tiff.pages) > 1:
            raise RadiographError(f"{path}: the file holds {len(tiff.pages)} pages; export a single one.")
        if page.dtype is None:
            raise RadiographError(
                f"{path}: pixels of {page.bitspersample} bits cannot be read; save them with 8 or 16 bits."
            )
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        lossy = tifffile.COMPRESSION(page.compression).name in LOSSY
        mark = _mark(page.description)
        pixels = _pixels(path, page)
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[-1] < 3 else grey_of(str(path), pixels[..., :3])
    return Decoded(pixels, Grid(pixels.shape), bright_is_dense=not inverted, lossy=lossy, synthetic=mark)


def _mark(description: str) -> dict[str, Any] | None:
    """Our document in the description; tifffile itself writes JSON there too, under no name."""
    named = synthetic.from_text(description) or {}
    mark = named.get(synthetic.KEY)
    return mark if isinstance(mark, dict) else None


def _pixels(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """`(H, W)` or `(H, W, channels)` in the file's own dtype."""
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return page.asrgb()
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        with quiet_itk():
            pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="TIFFImageIO"))
        return pixels[0] if pixels.ndim > 2 and pixels.shape[0] == 1 else pixels
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    return np.ascontiguousarray(pixels)
