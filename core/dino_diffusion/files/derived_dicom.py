"""An edited or synthetic DICOM image: derived, with new identifiers and nothing of the patient."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from dino_diffusion import __version__
from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.overlay_plane import add_overlay
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
"""What describes the picture and not the person: everything else of the source stays behind. None of these is
in the Basic Application Level Confidentiality Profile (PS3.15, table E.1-1)."""

KEPT_IN_SEQUENCES = (
    "CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning",
    "AnatomicRegionModifierSequence", "ViewModifierCodeSequence", "LUTDescriptor", "LUTData",
    "ModalityLUTType",
)  # fmt: skip
"""Of the items of kept sequences: their free texts, private and identifying attributes stay behind too."""

EMPTY = (
    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    "StudyID", "Laterality",
)  # fmt: skip
"""Attributes the standard wants present, and lets be empty."""

MAKER, PRODUCT = "DiNO-Diffusion", "dino-diffusion"
SYNTHETIC = "SYNTHETIC"
SYNTHETIC_DATA = 0x0008001C
"""Attribute Synthetic Data of newer editions of the standard, which pydicom 2.4 does not know by name."""

MODIFYING_EQUIPMENT = ("109103", "DCM", "Modifying Equipment")
"""From context group CID 7005."""


def write_derived_dicom(path: Path, source: Source, plane: np.ndarray, mark: dict[str, Any] | None) -> None:
    """`(H, W)` stored values in Explicit VR Little Endian. Raises RadiographError without a DICOM source.

    `mark`, what is said of a synthetic image, also brings an overlay plane with the word SYNTHETIC; the
    pixels stay as they are.
    """
    if source.dataset is None:
        raise RadiographError(f"{source.name}: a DICOM image needs a DICOM source; write PNG, TIFF or NRRD.")
    image = Dataset()
    for keyword in KEPT:
        if keyword in source.dataset:
            image[keyword] = _of_the_picture(source.dataset[keyword])
    for keyword in EMPTY:
        setattr(image, keyword, None)
    image.setdefault("SOPClassUID", SecondaryCaptureImageStorage)
    _set_identity(image)
    _set_origin(image, is_synthetic=mark is not None)
    _set_pixels(image, plane, lossy=source.lossy)
    if mark is not None:
        add_overlay(image, source.grid, SYNTHETIC)
        block = image.private_block(PRIVATE_GROUP, synthetic.KEY, create=True)
        block.add_new(PRIVATE_ELEMENT, "UT", synthetic.to_text(mark))
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.is_little_endian, image.is_implicit_VR = True, False
    dcmwrite(path, image, write_like_original=False)


def _of_the_picture(element: DataElement) -> DataElement:
    """The element; of a sequence only what describes the picture."""
    if element.VR != "SQ":
        return element
    items = []
    for item in element.value:
        kept = Dataset()
        for keyword in KEPT_IN_SEQUENCES:
            if keyword in item:
                kept[keyword] = _of_the_picture(item[keyword])
        items.append(kept)
    return DataElement(element.tag, "SQ", Sequence(items))


def _set_identity(image: Dataset) -> None:
    """A study, a series and a patient of its own."""
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientName, image.PatientID = "Synthetic", f"synthetic-{image.SOPInstanceUID[-12:]}"
    # An edited picture keeps its source's pixels, with whatever is written in them.
    image.PatientIdentityRemoved = "NO" if image.get("BurnedInAnnotation") == "YES" else "YES"
    image.DeidentificationMethod = [
        "Only attributes of the picture were copied from the source",
        "The pixels were not searched for burned-in text",
    ]


def _set_origin(image: Dataset, is_synthetic: bool) -> None:
    """What was done, when, and by which program."""
    now = datetime.datetime.now()
    done = "Synthetic image, generated or edited by DiNO-Diffusion" if is_synthetic else "Edited image"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DerivationDescription = done
    image.SeriesDescription = image.StudyDescription = "Derived image"
    if is_synthetic:
        image.SeriesDescription = image.StudyDescription = f"{SYNTHETIC} image, {MAKER}"
        image.ImageComments = f"{SYNTHETIC}. Research use only. The recipe is in the private group."
        image.add_new(SYNTHETIC_DATA, "CS", "YES")
    image.SeriesNumber, image.InstanceNumber = None, 1
    image.Manufacturer, image.ManufacturerModelName, image.SoftwareVersions = MAKER, PRODUCT, __version__
    image.ContentDate, image.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    purpose, equipment = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = MODIFYING_EQUIPMENT
    equipment.PurposeOfReferenceCodeSequence = Sequence([purpose])
    equipment.Manufacturer, equipment.ManufacturerModelName = MAKER, PRODUCT
    equipment.SoftwareVersions = __version__
    equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    equipment.ContributionDescription = done
    image.ContributingEquipmentSequence = Sequence([equipment])


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
