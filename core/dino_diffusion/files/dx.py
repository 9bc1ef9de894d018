"""What a DICOM DX header says of a frontal chest picture that no detector took."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation

DETECTOR_MM = 350.0
"""A usual detector's width: a synthetic chest has no true size, but DICOM DX wants a pixel spacing."""


def dx_attributes(stored: np.ndarray, bits: int, spacing_mm: tuple[float, float] | None = None) -> Dataset:
    """Attributes of an upright picture `(H, W)` of `bits` bits in 16, with the spacing of rows, columns."""
    row, column = spacing_mm or (DETECTOR_MM / stored.shape[1],) * 2
    attributes = Dataset()
    attributes.SOPClassUID, attributes.Modality = DigitalXRayImageStorageForPresentation, "DX"
    attributes.BodyPartExamined, attributes.ViewPosition = "CHEST", None
    attributes.PatientOrientation, attributes.ImageLaterality = ["L", "F"], "U"
    attributes.ImagerPixelSpacing = [round(row, 6), round(column, 6)]
    attributes.PixelIntensityRelationship, attributes.PixelIntensityRelationshipSign = "LOG", -1
    attributes.RescaleIntercept, attributes.RescaleSlope, attributes.RescaleType = 0, 1, "US"
    attributes.WindowCenter, attributes.WindowWidth = 2 ** (bits - 1), 2**bits
    attributes.PresentationLUTShape, attributes.PresentationIntentType = "IDENTITY", "FOR PRESENTATION"
    attributes.BurnedInAnnotation, attributes.LossyImageCompression = "NO", "00"
    attributes.BitsAllocated, attributes.BitsStored, attributes.HighBit = 16, bits, bits - 1
    attributes.PixelRepresentation, attributes.PhotometricInterpretation = 0, "MONOCHROME2"
    return attributes
