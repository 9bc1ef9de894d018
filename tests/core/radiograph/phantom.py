"""A drawn chest and files of it in every format: no patient is in these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

PATIENT, PATIENT_ID = "Doe^Jane", "MRN-Q4711"
"""With letters, so that no random identifier contains it by chance."""


def chest(height: int = 96, width: int = 80, levels: int = 4096, dtype: str = "uint16") -> np.ndarray:
    """`(H, W)`: bright body, two dark lungs of different size, a mark at the top left; uses all levels."""
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    body = np.exp(-(((columns - 0.5) / 0.45) ** 4) - ((rows - 0.55) / 0.6) ** 4)
    right = ((columns - 0.30) / 0.14) ** 2 + ((rows - 0.5) / 0.30) ** 2 < 1
    left = ((columns - 0.70) / 0.12) ** 2 + ((rows - 0.5) / 0.26) ** 2 < 1
    picture = body - 0.6 * (right | left) + 0.1 * rows
    noise = np.random.default_rng(0).normal(0, 0.02, picture.shape)
    picture = picture + noise
    picture[2:7, 2:5] = picture.max()
    unit = (picture - picture.min()) / np.ptp(picture)
    return np.rint(unit * (levels - 1)).astype(dtype)


def lungs(height: int = 96, width: int = 80) -> np.ndarray:
    """uint8 labels of the drawn chest."""
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    right = ((columns - 0.30) / 0.14) ** 2 + ((rows - 0.5) / 0.30) ** 2 < 1
    left = ((columns - 0.70) / 0.12) ** 2 + ((rows - 0.5) / 0.26) ** 2 < 1
    return (right + 2 * left).astype(np.uint8)


def dicom(path: Path, pixels: np.ndarray | None, bits: int = 12, **attributes: Any) -> FileDataset:
    """Write a radiograph of a made-up patient; `attributes` override or, where None, delete."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    modality = attributes.get("Modality", "CR")
    meta.MediaStorageSOPClassUID = (
        DigitalXRayImageStorageForPresentation if modality == "DX" else ComputedRadiographyImageStorage
    )
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PATIENT, PATIENT_ID, "19700101"
    dataset.PatientSex, dataset.AccessionNumber, dataset.StudyID = "F", f"A-{PATIENT_ID}", f"S-{PATIENT_ID}"
    dataset.StudyDate, dataset.StudyTime, dataset.ReferringPhysicianName = "20200101", "120000", "Roe^Richard"
    dataset.InstitutionName, dataset.Modality = f"Hospital {PATIENT_ID}", modality
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PixelSpacing = [0.2, 0.3]
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.BitsAllocated = 8 * pixels.dtype.itemsize
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.save_as(path, write_like_original=False)
    return dataset


def encapsulated(path: Path, pixels: np.ndarray, frame: bytes, syntax: str, **attributes: Any) -> None:
    """As `dicom`, with one compressed frame."""
    from pydicom.encaps import encapsulate

    dataset = dicom(path, pixels, **attributes)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, write_like_original=False)


def item(**attributes: Any) -> Dataset:
    """A sequence item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset
