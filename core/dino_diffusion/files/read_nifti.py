"""NIfTI, through nibabel, which keeps the stored integers and both of the header's transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from dino_diffusion.files import synthetic
from dino_diffusion.files.checks import grey_of
from dino_diffusion.files.grid import Geometry
from dino_diffusion.files.read import Decoded, truncated
from dino_diffusion.files.read_volume import check_single_slice, grid_of, spacing_in_plane

COMMENT = 6
"""NIfTI's code for an extension that holds plain text."""


def read_nifti(path: Path) -> Decoded:
    """Shape checked from the header; the array in numpy order (z, y, x), as ITK gives it."""
    image = nibabel.load(path, mmap=False)
    if not isinstance(image, nibabel.Nifti1Image):
        raise truncated(path)
    shape = tuple(reversed(image.shape))
    check_single_slice(path, shape)
    proxy: Any = image.dataobj
    pixels = np.asarray(proxy.get_unscaled())
    if pixels.dtype.fields:
        pixels = grey_of(str(path), np.stack([pixels[channel] for channel in ("R", "G", "B")], axis=-1))
    stored = np.ascontiguousarray(pixels.T)
    header = image.header.copy()
    header.set_slope_inter(proxy.slope, proxy.inter)
    geometry = _geometry(image)
    return Decoded(
        stored,
        grid_of(shape, geometry),
        spacing_mm=spacing_in_plane(shape, geometry),
        geometry=geometry,
        header=header,
        bright_is_dense=not proxy.slope < 0,
        synthetic=_mark(header),
    )


def _geometry(image: nibabel.Nifti1Image) -> Geometry:
    """Position in DICOM's axes from the transform that nibabel trusts: the sform, else the qform."""
    to_patient = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, dtype=float)
    size = min(max(len(image.shape), 2), 3)
    steps = np.linalg.norm(to_patient[:3, :size], axis=0)
    spacing = np.where(steps > 0, steps, 1.0)
    direction = to_patient[:size, :size] / spacing
    if abs(np.linalg.det(direction)) < 1e-6:
        direction = np.eye(size)
    return Geometry(
        tuple(float(value) for value in spacing),
        tuple(float(value) for value in to_patient[:size, 3]),
        tuple(float(value) for value in direction.ravel()),
    )


def _mark(header: nibabel.Nifti1Header) -> dict[str, Any] | None:
    """The first plain-text extension that is one of our documents."""
    for extension in header.extensions:
        if extension.get_code() == COMMENT:
            content = extension.get_content()
            text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
            mark = synthetic.from_text(text.rstrip("\0"))
            if mark is not None:
                return mark
    return None
