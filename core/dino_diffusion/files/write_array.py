"""Arrays on a radiograph's stored grid, losslessly, in the formats that are not DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import SimpleITK
import tifffile
from nibabel.nifti1 import Nifti1Extension
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.read_nifti import COMMENT

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Source

DESCRIPTION_LENGTH = 79
"""NIfTI's description holds 80 bytes with the closing zero; the whole document goes into an extension."""


def write_png(path: Path, plane: np.ndarray, mark: dict[str, Any] | None) -> None:
    """`(H, W)` with 8 or 16 bits. Raises RadiographError for other types."""
    if plane.dtype not in (np.uint8, np.uint16):
        raise RadiographError(
            f"{path}: a PNG cannot hold {plane.dtype} pixels; write TIFF, NRRD or the source's own format."
        )
    text = PngInfo()
    if mark is not None:
        text.add_text(synthetic.KEY, synthetic.to_text(mark))
    Image.fromarray(plane).save(path, format="PNG", pnginfo=text)


def write_tiff(path: Path, plane: np.ndarray, mark: dict[str, Any] | None, bright_is_dense: bool) -> None:
    """`(H, W)` of any dtype, compressed without loss; keeps the source's meaning of black."""
    tifffile.imwrite(
        path,
        plane,
        photometric="minisblack" if bright_is_dense else "miniswhite",
        compression="zlib",
        description=None if mark is None else synthetic.to_text({synthetic.KEY: mark}),
        metadata=None,
    )


def write_nifti(
    path: Path, array: np.ndarray, source: Source, mark: dict[str, Any] | None, is_label: bool
) -> None:
    """The stored array (numpy order). A NIfTI source's own header is kept: both transforms, units, codes.

    An image keeps the header's intensity scaling with its stored values, a labelmap has none.
    """
    if source.header is None:
        image = _nifti_of_geometry(array, source)
    else:
        image = nibabel.Nifti1Image(array.T, None, source.header)
        image.header.extensions.clear()
        slope, inter = (None, None) if is_label else source.header.get_slope_inter()
        image.header.set_slope_inter(slope, inter)
    image.header["cal_min"] = image.header["cal_max"] = 0
    image.header.set_data_dtype(array.dtype)
    if mark is not None:
        image.header["descrip"] = f"{synthetic.KEY} synthetic image"[:DESCRIPTION_LENGTH].encode()
        image.header.extensions.append(Nifti1Extension(COMMENT, synthetic.to_text(mark).encode()))
    nibabel.save(image, path)


def _nifti_of_geometry(array: np.ndarray, source: Source) -> nibabel.Nifti1Image:
    """A new header with qform and sform from the source's position in the patient, as ITK writes it."""
    to_patient = np.eye(4)
    geometry = source.geometry
    if geometry is not None:
        size = len(geometry.spacing)
        to_patient[:size, :size] = np.asarray(geometry.direction).reshape(size, size) * geometry.spacing
        to_patient[:size, 3] = geometry.origin
        array = array.reshape((1,) * (size - array.ndim) + array.shape)
    image = nibabel.Nifti1Image(array.T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_patient)
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    return image


def write_itk(path: Path, array: np.ndarray, source: Source, mark: dict[str, Any] | None) -> None:
    """NRRD or MetaImage by the ending, compressed, with the source's origin, spacing and direction."""
    geometry = source.geometry
    if geometry is not None:
        size = len(geometry.spacing)
        array = array.reshape(((1,) * size + array.shape)[-size:]) if array.ndim < size else array
        array = array.reshape(array.shape[array.ndim - size :])
    image = SimpleITK.GetImageFromArray(array)
    if geometry is not None:
        image.SetSpacing(geometry.spacing)
        image.SetOrigin(geometry.origin)
        image.SetDirection(geometry.direction)
    if mark is not None:
        image.SetMetaData(synthetic.KEY, synthetic.to_text(mark))
    SimpleITK.WriteImage(image, str(path), True)
