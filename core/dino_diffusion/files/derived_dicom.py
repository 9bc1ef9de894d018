"""An edited or synthetic DICOM image: derived, with new identifiers and nothing of the patient."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.read_dicom import PRIVATE_ELEMENT, PRIVATE_GROUP

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Source

KEPT = (
    "SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "PatientOrientation", "ImageLaterality",
    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio",
    "PixelIntensityRelationship", "PixelIntensityRelationshipSign", "RescaleIntercept", "RescaleSlope",
    "RescaleType", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "PresentationLUTShape", "PresentationIntentType", "BurnedInAnnotation", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "AnatomicRegionSequence", "ViewCodeSequence",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation",
)  # fmt: skip
"""What describes the picture and not the person: everything else of the source stays behind."""

EMPTY = (
    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    "StudyID", "Laterality",
)  # fmt: skip
"""Attributes the standard wants present, and lets be empty."""

MAKER = "DiNO-Diffusion"


def write_derived_dicom(path: Path, source: Source, plane: np.ndarray, mark: dict[str, Any] | None) -> None:
    """`(H, W)` stored values in Explicit VR Little Endian. Raises RadiographError without a DICOM source."""
    if source.dataset is None:
        raise RadiographError(f"{source.name}: a DICOM image needs a DICOM source; write PNG, TIFF or NRRD.")
    now = datetime.datetime.now()
    image = Dataset()
    for keyword in KEPT:
        if keyword in source.dataset:
            image[keyword] = source.dataset[keyword]
    for keyword in EMPTY:
        setattr(image, keyword, None)
    image.setdefault("SOPClassUID", SecondaryCaptureImageStorage)
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientName, image.PatientID = "Synthetic", f"synthetic-{image.SOPInstanceUID[-12:]}"
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "Only attributes of the picture were copied from the source"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DerivationDescription = (
        "Edited image" if mark is None else "Synthetic image, generated or edited by DiNO-Diffusion"
    )
    image.SeriesDescription = "Derived image" if mark is None else "Synthetic image"
    image.SeriesNumber, image.InstanceNumber = None, 1
    image.Manufacturer, image.ManufacturerModelName = MAKER, "dino-diffusion"
    image.ContentDate, image.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    image.setdefault("BurnedInAnnotation", "NO")
    _set_pixels(image, plane, lossy=source.lossy)
    if mark is not None:
        block = image.private_block(PRIVATE_GROUP, synthetic.KEY, create=True)
        block.add_new(PRIVATE_ELEMENT, "UT", synthetic.to_text(mark))
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.is_little_endian, image.is_implicit_VR = True, False
    dcmwrite(path, image, write_like_original=False)


def _set_pixels(image: Dataset, plane: np.ndarray, lossy: bool) -> None:
    """One grey channel; colour that was really grey becomes MONOCHROME2."""
    image.Rows, image.Columns = plane.shape
    image.SamplesPerPixel = 1
    if not image.PhotometricInterpretation.startswith("MONOCHROME"):
        image.PhotometricInterpretation = "MONOCHROME2"
    if lossy:
        image.LossyImageCompression = "01"
    little = plane.astype(plane.dtype.newbyteorder("<"))
    data = little.tobytes()
    image.add_new(0x7FE00010, "OW" if image.BitsAllocated > 8 else "OB", data + b"\0" * (len(data) % 2))
