"""DICOM: single-frame projection radiographs, CR, DX and their kin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.pixel_data_handlers.util import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    JPEG2000,
    UID,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.checks import check_content, check_size
from dino_diffusion.files.decode_dicom import decode
from dino_diffusion.files.grey import GreyMap, TableGrey, range_of
from dino_diffusion.files.grid import Geometry, Grid, upright
from dino_diffusion.files.read import Decoded

PROJECTION = ("CR", "DX", "DR", "RG", "RF", "XA", "PX", "IO", "MG", "SC", "OT", "")
"""Modalities that hold, or may hold, a projection image; OT and SC are what converters write."""

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
PATIENT_AXES = {
    "L": (1, 0, 0),
    "R": (-1, 0, 0),
    "P": (0, 1, 0),
    "A": (0, -1, 0),
    "H": (0, 0, 1),
    "F": (0, 0, -1),
}
PRIVATE_GROUP, PRIVATE_ELEMENT = 0x0099, 0x10
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
TABLE_BITS = 16


def read_dicom(path: Path) -> Decoded:
    """Header checked before the pixels are read. Raises RadiographError."""
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    _check_header(path, header)
    dataset = pydicom.dcmread(path, force=True)
    if "PixelData" not in dataset:
        raise RadiographError(
            f"{path}: the DICOM file has no pixel data or breaks off before it; export it again."
        )
    if not getattr(dataset.file_meta, "TransferSyntaxUID", None):
        dataset.file_meta.TransferSyntaxUID = UID(ImplicitVRLittleEndian)
    stored = decode(path, dataset)
    check_content(str(path), stored)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    spacing = _spacing(dataset)
    grid = _grid(dataset, stored.shape)
    grey = _grey(dataset, stored, inverted)
    lossy = _is_lossy(dataset)
    mark = _mark(dataset)
    del dataset.PixelData
    row, column = spacing or (1.0, 1.0)
    return Decoded(
        stored,
        grid,
        spacing_mm=spacing,
        grey=grey,
        geometry=Geometry((column, row, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist())),
        dataset=dataset,
        bright_is_dense=not inverted,
        lossy=lossy,
        synthetic=mark,
    )


def _check_header(path: Path, header: FileDataset) -> None:
    """Refuse what is not one projection image of a usable size."""
    modality = str(header.get("Modality", "") or "")
    if modality not in PROJECTION:
        raise RadiographError(f"{path}: its modality is {modality}; give a projection radiograph (CR or DX).")
    if "Rows" not in header or "Columns" not in header:
        raise RadiographError(
            f"{path}: the DICOM file has no pixel data or breaks off before it; export it again."
        )
    frames = int(header.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise RadiographError(f"{path}: the DICOM file holds {frames} frames; export a single one.")
    check_size(str(path), int(header.Rows), int(header.Columns))


def _spacing(dataset: FileDataset) -> tuple[float, float] | None:
    """(row, column), mm; the first of the attributes that holds two positive numbers."""
    for keyword in SPACINGS:
        values = dataset.get(keyword)
        if values is not None and not isinstance(values, (str, float)) and len(values) == 2:
            row, column = (float(value) for value in values)
            if row > 0 and column > 0:
                return row, column
    return None


def _grid(dataset: FileDataset, shape: tuple[int, ...]) -> Grid:
    """How the picture lies, from Patient Orientation: the directions of its rows and its columns."""
    orientation = dataset.get("PatientOrientation")
    if orientation is None or isinstance(orientation, str) or len(orientation) != 2:
        return Grid(tuple(shape))
    across, down = (PATIENT_AXES.get(str(value)[:1]) for value in orientation)
    if across is None or down is None:
        return Grid(tuple(shape))
    return upright(shape, rows=np.asarray(down, float), columns=np.asarray(across, float))


def _grey(dataset: FileDataset, stored: np.ndarray, inverted: bool) -> GreyMap:
    """Rescale, then lookup table or window (the first of several), else the range of the data.

    A window that shows nothing of the picture is ignored.
    """
    if int(dataset.BitsStored) > TABLE_BITS:
        return range_of(stored, inverted)
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    first = -(2 ** (bits - 1)) if signed else 0
    possible = np.arange(first, first + 2**bits, dtype=np.int32)
    rescaled = _applied(apply_modality_lut, possible, dataset)
    modality = possible.astype(np.float64) if rescaled is None else rescaled
    present = np.clip(stored.astype(np.int32) - first, 0, len(possible) - 1)
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        # A lookup table wants integers, which a rescale by whole numbers leaves.
        whole = modality.astype(np.int32) if (modality == np.rint(modality)).all() else modality
        windowed = _applied(apply_voi_lut, whole, dataset)
        if windowed is not None and np.ptp(windowed[present]) > 0:
            return _table(windowed, windowed.min(), windowed.max(), first, inverted)
    shown = modality[present]
    return _table(modality, shown.min(), shown.max(), first, inverted)


def _table(values: np.ndarray, low: float, high: float, first: int, inverted: bool) -> TableGrey:
    unit = np.clip((values - low) / (high - low), 0, 1)
    return TableGrey((1 - unit if inverted else unit).astype(np.float32), first)


def _applied(function: Any, values: np.ndarray, dataset: FileDataset) -> np.ndarray | None:
    """Values through a lookup table or window; None where its numbers are missing or senseless."""
    try:
        changed = np.asarray(function(values, dataset), dtype=np.float64)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError):
        return None
    return changed if np.isfinite(changed).all() else None


def _is_lossy(dataset: FileDataset) -> bool:
    """By the file's own word, else by its compression."""
    word = str(dataset.get("LossyImageCompression", "") or "")
    syntax = dataset.file_meta.TransferSyntaxUID
    return word == "01" or syntax in LOSSY or (syntax == JPEG2000 and word != "00")


def _mark(dataset: FileDataset) -> dict[str, Any] | None:
    try:
        value = dataset.private_block(PRIVATE_GROUP, synthetic.KEY)[PRIVATE_ELEMENT].value
    except KeyError:
        return None
    return synthetic.from_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
