"""Whether a submitted file is a label of the image it is submitted for."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk
from fastapi import HTTPException

from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.radiograph import Radiograph


def check_label(label: Path, image: Path) -> None:
    """400 for a file that is no image, or whose pixels are not those of `image`."""
    found = _size(label, whole=True)
    if found is None:
        raise HTTPException(400, "The label cannot be read; send NRRD, NIfTI, MHA or PNG.")
    expected = _size(image) or _radiograph_size(image)
    if expected is not None and found != expected:
        raise HTTPException(
            400,
            f"The label has {' x '.join(map(str, found))} pixels, the image "
            f"{' x '.join(map(str, expected))}; send it on the image's own grid.",
        )


def _size(path: Path, whole: bool = False) -> tuple[int, ...] | None:
    """Columns and rows; sides of 1 pixel, as a one-slice volume has, do not count. `whole`: reads the pixels
    too, because a header may be whole where they are cut off. None for what is no image."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.Execute().GetSize() if whole else reader.GetSize()
    except RuntimeError:
        return None
    return tuple(int(side) for side in size if side != 1)


def _radiograph_size(path: Path) -> tuple[int, ...] | None:
    try:
        rows, columns = Radiograph.read(path).pixels.shape
    except DinoDiffusionError:
        return None
    return columns, rows
