"""Generated radiographs as files, each with its recipe beside it and inside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dino_diffusion.files.formats import format_of_suffix, suffix_of
from dino_diffusion.files.grid import Geometry
from dino_diffusion.files.write_image import write_image
from dino_diffusion.generation.sampled import Synthetic
from dino_diffusion.radiograph import Radiograph

ENDINGS = {"png": ".png", "tiff": ".tif", "nii.gz": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "dcm": ".dcm"}
DICOM_BITS = 12


def save_synthetic(item: Synthetic, path: Path) -> list[Path]:
    """`save_image`, and the recipe beside it; returns both paths."""
    written = save_image(item, path)
    return [written, item.recipe.write_beside(written)]


def save_image(item: Synthetic, path: Path) -> Path:
    """Writes the image, 8 bits (DICOM: 12), its recipe inside, in the format of the path's ending.

    PNG for a path without the ending of a lossless format. Raises RadiographError where the place cannot be
    written to.
    """
    if not suffix_of(path):
        path = path.with_name(path.name + ENDINGS["png"])
    radiograph = as_dicom(item) if format_of_suffix(suffix_of(path)) == "dicom" else as_radiograph(item)
    return write_image(radiograph, radiograph.stored, path, synthetic=item.recipe.to_dict())


def as_radiograph(item: Synthetic, levels: int = 256) -> Radiograph:
    """The picture in integers of that many levels, with its spacing where it has one."""
    stored = (np.clip(item.pixels, 0, 1) * (levels - 1) + 0.5).astype(
        np.uint8 if levels <= 256 else np.uint16
    )
    radiograph = Radiograph.from_array(stored, item.spacing_mm, name="synthetic")
    if item.spacing_mm is None:
        return radiograph
    row, column = item.spacing_mm
    geometry = Geometry((column, row, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist()))
    return replace(radiograph, source=replace(radiograph.source, geometry=geometry))


def as_dicom(item: Synthetic) -> Radiograph:
    """12-bit DX for presentation; patient and study are made up by the writer of derived images."""
    from dino_diffusion.files.dx import dx_attributes

    radiograph = as_radiograph(item, levels=2**DICOM_BITS)
    attributes = dx_attributes(radiograph.stored, DICOM_BITS, item.spacing_mm)
    return replace(radiograph, source=replace(radiograph.source, format="dicom", dataset=attributes))
