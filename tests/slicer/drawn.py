"""Radiographs for tests: drawn ones of any size, and the project's synthetic ones. No patient is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tests.slicer.places import REPOSITORY

SAMPLES = REPOSITORY / "core" / "dino_diffusion" / "samples"


def chest(rows: int = 96, columns: int = 80, seed: int = 0) -> np.ndarray:
    """uint16 `(1, rows, columns)`: dark lungs in a bright body; the right lung lies left in the picture."""
    y, x = np.mgrid[0:rows, 0:columns] / np.array([rows, columns]).reshape(2, 1, 1)
    picture = np.full((rows, columns), 2600.0)
    for centre in (0.3, 0.7):
        picture[((x - centre) / 0.15) ** 2 + ((y - 0.5) / 0.33) ** 2 < 1] = 700
    picture += np.random.default_rng(seed).normal(0, 40, picture.shape)
    return picture.clip(0, 4095).astype(np.uint16)[None]


def write_dicom(path: Path, pixels: np.ndarray, inverted: bool, spacing: float = 0.2) -> Path:
    """A digital radiograph as a DICOM file; `inverted` stores it as MONOCHROME1."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientName, data.PatientID = "DX", "Drawn^Chest", "1"
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.Rows, data.Columns = pixels.shape[1:]
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation, data.SamplesPerPixel = 0, 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.ImagerPixelSpacing = [spacing, spacing]
    data.PixelData = (4095 - pixels if inverted else pixels).astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def sample(number: int = 1) -> np.ndarray:
    """A synthetic radiograph of the project, uint8 or uint16 `(1, rows, columns)`."""
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(SAMPLES / f"synthetic-{number}.png")))
    return (array if array.ndim == 2 else array[..., 0])[None]
