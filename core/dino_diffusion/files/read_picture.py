"""PNG, JPEG and WebP. They carry no trustworthy pixel spacing: resolutions in them are for print."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.checks import MAXIMUM_PIXELS, MAXIMUM_SIDE, check_size, grey_of
from dino_diffusion.files.grid import Grid
from dino_diffusion.files.read import Decoded


def read_picture(path: Path) -> Decoded:
    """Decode with pillow; the size is checked from the header. Raises RadiographError."""
    try:
        picture = Image.open(path, formats=("PNG", "JPEG", "WEBP"))
        with picture:
            check_size(str(path), picture.height, picture.width)
            frames = int(getattr(picture, "n_frames", 1))
            if frames > 1:
                raise RadiographError(f"{path}: the file holds {frames} frames; export a single one.")
            lossy = picture.format == "JPEG" or (picture.format == "WEBP" and not _lossless_webp(path))
            pixels = _grey(path, picture)
            mark = synthetic.from_text(getattr(picture, "text", {}).get(synthetic.KEY))
    except Image.DecompressionBombError as error:
        raise RadiographError(
            f"{path}: the image is far too large; give one of at most {MAXIMUM_SIDE} pixels a side and "
            f"{MAXIMUM_PIXELS // 1_000_000} million in all."
        ) from error
    return Decoded(pixels, Grid(pixels.shape), lossy=lossy, synthetic=mark)


def _grey(path: Path, picture: Image.Image) -> np.ndarray:
    """`(H, W)` as a person sees it: orientation tag applied, alpha dropped, equal channels joined."""
    tiles = getattr(picture, "tile", [])
    raw_mode = str(tiles[0].args) if tiles else ""
    if picture.mode in ("RGB", "RGBA", "LA") and ";16" in raw_mode:
        return _grey_of_deep_colour(path)
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16") or upright.mode in ("L", "I", "F"):
        pixels = np.asarray(upright)
        return pixels.astype(np.uint16) if upright.mode.startswith("I;16") else pixels
    if upright.mode in ("1", "LA"):
        return np.asarray(upright.convert("L") if upright.mode == "1" else upright.getchannel("L"))
    return grey_of(str(path), np.asarray(upright.convert("RGB")))


def _grey_of_deep_colour(path: Path) -> np.ndarray:
    """16 bits a channel: pillow would cut them to 8, ITK does not."""
    import SimpleITK

    channels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    return grey_of(str(path), channels[..., :3]) if channels.shape[-1] >= 3 else channels[..., 0]


def _lossless_webp(path: Path) -> bool:
    """Whether the picture's chunk is VP8L; an extended file lists chunks of (name, length, data)."""
    data = path.read_bytes()
    position = 12
    while position + 8 <= len(data):
        name, length = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        position += 8 + length + length % 2
    return False
