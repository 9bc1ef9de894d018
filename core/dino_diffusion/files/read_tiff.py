"""TIFF with 8, 16 or 32 bits, signed or not, or floating point."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import SimpleITK
import tifffile

from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.checks import check_size, grey_of
from dino_diffusion.files.grey import LinearGrey, range_of
from dino_diffusion.files.grid import Grid
from dino_diffusion.files.read import Decoded, truncated

LOSSY = ("JPEG", "OJPEG", "WEBP", "JPEG2000")


def read_tiff(path: Path) -> Decoded:
    """Header through tifffile, which also decodes what needs no codec; the rest through ITK."""
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = len(tiff.pages)
            page = tiff.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            check_size(str(path), page.imagelength, page.imagewidth)
            if pages > 1:
                raise RadiographError(f"{path}: the file holds {pages} pages; export a single one.")
            if page.dtype is None:
                raise RadiographError(
                    f"{path}: pixels of {page.bitspersample} bits cannot be read; save them with 8 or 16 bits."
                )
            photometric, compression = page.photometric.name, page.compression.name
            mark = synthetic.from_text(page.description)
            pixels = _pixels(path, page)
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError, EOFError, struct.error) as error:
        raise truncated(path, error) from error
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[-1] < 3 else grey_of(str(path), pixels[..., :3])
    inverted = photometric == "MINISWHITE"
    grey = range_of(pixels)
    return Decoded(
        pixels,
        Grid(pixels.shape),
        grey=LinearGrey(grey.low, grey.high, inverted) if inverted else None,
        bright_is_dense=not inverted,
        lossy=compression in LOSSY,
        synthetic=mark,
    )


def _pixels(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """`(H, W)` or `(H, W, channels)` in the file's own dtype."""
    if page.photometric.name == "PALETTE":
        return np.moveaxis(page.asrgb(), 0, 0)
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        try:
            pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="TIFFImageIO"))
        except RuntimeError as failure:
            raise truncated(path, failure) from failure
        return pixels[0] if pixels.ndim > 2 and pixels.shape[0] == 1 else pixels
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    return np.ascontiguousarray(pixels)
