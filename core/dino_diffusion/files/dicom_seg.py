"""DICOM Segmentation objects, through highdicom, with standard codes and a reference to the radiograph."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import highdicom
import numpy as np
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from skimage.color import rgb2lab

from dino_diffusion.codes import ANATOMICAL_STRUCTURE, Code, Segment
from dino_diffusion.errors import RadiographError
from dino_diffusion.files import highdicom_numpy2

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Labelmap

highdicom_numpy2.install()

MAKER, PRODUCT, VERSION = "DiNO-Diffusion", "dino-diffusion", "1"
LUNG_SEGMENTATION = Code("123109", "Artificial Intelligence", "DCM")
SERIES_NUMBER = 9000
REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
EMPTY_IF_MISSING = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Attributes that every image must have, possibly empty; careless exports leave them out."""


def write_dicom_seg(path: Path, labelmap: Labelmap) -> None:
    """One binary segment for each of the labelmap's names, numbered 1, 2, ... in order of value.

    Frames of absent segments are left out. Raises RadiographError where the source lacks the identifiers
    a segmentation must refer to, or the labelmap is empty.
    """
    source = labelmap.radiograph.source
    missing = [keyword for keyword in REQUIRED if not source.dataset.get(keyword)]
    if missing:
        raise RadiographError(
            f"{source.path}: the DICOM file lacks {', '.join(missing)}, so DICOM SEG cannot refer to it; "
            "write PNG."
        )
    if not labelmap.labels.any():
        raise RadiographError(
            f"{source.name}: the labelmap is empty, which DICOM SEG cannot hold; write PNG."
        )
    values = sorted({*labelmap.names, *(int(v) for v in np.unique(labelmap.labels) if v)})
    plane = source.grid.stored_plane(labelmap.labels)
    masks = np.stack([plane == value for value in values], axis=-1)[np.newaxis].astype(np.uint8)
    described = [
        _description(number, labelmap.segment(value)) for number, value in enumerate(values, start=1)
    ]
    segmentation = highdicom.seg.Segmentation(
        source_images=[_complete(source.dataset)],
        pixel_array=masks,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=PRODUCT,
        software_versions=VERSION,
        device_serial_number="0",
        pixel_measures=_pixel_measures(labelmap),
        content_label="LUNGS" if set(values) <= {1, 2} else "SEGMENTS",
        content_description="Regions found by DiNO-Diffusion, to be checked by a person",
    )
    segmentation.SeriesDescription = "DiNO-Diffusion segmentation"
    segmentation.save_as(path)


def _pixel_measures(labelmap: Labelmap) -> highdicom.PixelMeasuresSequence | None:
    """The source's spacing; with a nominal thickness, which a projection lacks and readers ask for."""
    geometry = labelmap.radiograph.source.geometry
    if labelmap.radiograph.spacing_mm is None or geometry is None:
        return None
    column, row, thickness = geometry.spacing
    return highdicom.PixelMeasuresSequence((row, column), thickness)


def _description(number: int, segment: Segment) -> highdicom.seg.SegmentDescription:
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=_concept(ANATOMICAL_STRUCTURE),
        segmented_property_type=_concept(segment.kind),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=PRODUCT, family=_concept(LUNG_SEGMENTATION), version=VERSION
        ),
    )
    if segment.laterality is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = Sequence([_concept(segment.laterality)])
    description.RecommendedDisplayCIELabValue = _cielab(segment.colour)
    return description


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)


def _cielab(colour: tuple[int, int, int]) -> list[int]:
    """sRGB in 0..255 to DICOM's CIELab, three unsigned 16-bit numbers (PS3.3 C.10.7.1.1)."""
    lightness, a, b = rgb2lab(np.asarray(colour, dtype=float)[np.newaxis, np.newaxis] / 255)[0, 0]
    return [round(lightness * 65535 / 100), round((a + 128) * 65535 / 255), round((b + 128) * 65535 / 255)]


def _complete(dataset: Dataset) -> Dataset:
    """A copy in which the attributes that may be empty are at least there.

    A frame of reference without a position in it, which some exports carry, is left out.
    """
    # Not deep: pydicom 2.4 copies a dataset whose private block was looked at without end.
    whole = copy.copy(dataset)
    if "ImagePositionPatient" not in whole and "FrameOfReferenceUID" in whole:
        del whole.FrameOfReferenceUID
    for keyword in EMPTY_IF_MISSING:
        if keyword not in whole:
            setattr(whole, keyword, None)
    return whole
