"""Stored pixel values of a DICOM dataset, whatever its transfer syntax.

Native and RLE pixels are pydicom's; JPEG, JPEG-LS and JPEG 2000 go through the GDCM inside SimpleITK, so
that no further decoder has to be installed. What GDCM lacks is tried with pydicom's own plug-ins.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_pixel_data_frame
from pydicom.filewriter import dcmwrite
from pydicom.pixel_data_handlers.util import convert_color_space, pixel_dtype
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.checks import grey_of
from dino_diffusion.files.read import truncated
from dino_diffusion.files.read_volume import quiet_itk

PIXEL_ATTRIBUTES = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
JPEG_FAMILIES = tuple(f"1.2.840.10008.1.2.4.{digit}" for digit in "5789")
"""JPEG, JPEG-LS and JPEG 2000 (both parts): their streams all end with the same marker."""

END_OF_IMAGE = b"\xff\xd9"


def decode(path: Path, dataset: Dataset) -> np.ndarray:
    """`(H, W)` stored values in the dataset's own dtype, one channel. Raises RadiographError."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        # Newer than pydicom 2, high-throughput JPEG 2000 for one, or a maker's own.
        raise _no_decoder(path, syntax)
    if syntax.is_compressed and syntax != RLELossless:
        _check_complete(path, dataset, syntax)
        pixels = _through_gdcm(path, dataset, syntax)
    else:
        pixels = dataset.pixel_array
        if dataset.PhotometricInterpretation in ("YBR_FULL", "YBR_FULL_422"):
            pixels = convert_color_space(pixels, dataset.PhotometricInterpretation, "RGB")
    if pixels.ndim == 3:
        pixels = grey_of(str(path), pixels)
    return np.ascontiguousarray(pixels, dtype=pixel_dtype(dataset).newbyteorder("="))


def _check_complete(path: Path, dataset: Dataset, syntax: UID) -> None:
    """A compressed stream must reach its end marker: decoders silently paint what is missing.

    What writers pad behind the marker is zeros or 0xFF.
    """
    if not syntax.startswith(JPEG_FAMILIES):
        return
    stream = next(generate_pixel_data_frame(dataset.PixelData, 1))
    if not stream.rstrip(b"\0\xff").endswith(END_OF_IMAGE):
        raise truncated(path)


def _through_gdcm(path: Path, dataset: Dataset, syntax: UID) -> np.ndarray:
    """Decode by ITK from a copy that holds the pixels only, so that it applies no rescale of its own."""
    bare = Dataset()
    for keyword in PIXEL_ATTRIBUTES:
        if keyword in dataset:
            setattr(bare, keyword, dataset[keyword].value)
    if bare.SamplesPerPixel == 1:
        bare.PhotometricInterpretation = "MONOCHROME2"
    bare.SOPClassUID, bare.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    bare.PixelData = dataset.PixelData
    bare["PixelData"].is_undefined_length = True
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    bare.is_little_endian, bare.is_implicit_VR = True, False
    try:
        with tempfile.TemporaryDirectory() as folder, quiet_itk():
            copy = Path(folder) / "pixels.dcm"
            dcmwrite(copy, bare, write_like_original=False)
            pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(copy), imageIO="GDCMImageIO"))
        return pixels.reshape(pixels.shape[1:]) if pixels.shape[0] == 1 else pixels
    except RuntimeError:
        return _through_plugins(path, dataset, syntax)


def _through_plugins(path: Path, dataset: Dataset, syntax: UID) -> np.ndarray:
    """Whatever decoder the user has installed for pydicom."""
    try:
        pixels: np.ndarray = dataset.pixel_array
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise _no_decoder(path, syntax) from error
    return pixels


def _no_decoder(path: Path, syntax: UID) -> RadiographError:
    """The sentence for a compression that nothing here decodes."""
    return RadiographError(
        f"{path}: no decoder for its compression ({syntax.name}) or its stream is damaged; decompress it "
        f"to {ExplicitVRLittleEndian.name}, or install pylibjpeg, pylibjpeg-libjpeg and "
        "pylibjpeg-openjpeg."
    )
