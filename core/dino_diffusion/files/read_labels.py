"""Masks and labelmaps of a radiograph, from any file that lies on the same pixel grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.grid import Grid
from dino_diffusion.files.read import content_format, decode_file, one_sentence
from dino_diffusion.radiograph import Radiograph


def read_labels(path: str | Path, radiograph: Radiograph) -> np.ndarray:
    """Label values `(H, W)`, turned like the radiograph's pixels; 0 is outside.

    The file's pixels are those of the radiograph's file, one for one, as `write_labelmap` writes them. Of a
    DICOM segmentation the segments' numbers, a later one above an earlier. Raises RadiographError for what
    cannot be read, another size, a segmentation of another image, and lossy compression, which smears labels.
    """
    path = Path(path)
    with one_sentence(path):
        if content_format(path) == "dicom":
            values = _segments(path, radiograph)
        else:
            _, decoded = decode_file(path)
            if decoded.lossy:
                raise RadiographError(f"{path}: lossy compression smears a mask; save it as PNG.")
            values = decoded.array
        rows, columns = Grid(values.shape).plane
        given = values.shape[rows], values.shape[columns]
    source = radiograph.source
    first, second = source.grid.plane
    wanted = source.shape[first], source.shape[second]
    if given != wanted:
        raise RadiographError(
            f"{path}: the mask has {given[1]} x {given[0]} pixels, {source.name} {wanted[1]} x {wanted[0]}; "
            "draw it on the image's own grid."
        )
    return source.grid.picture(np.ascontiguousarray(values).reshape(source.shape))


def _segments(path: Path, radiograph: Radiograph) -> np.ndarray:
    """Numbers of a DICOM segmentation's segments as one plane."""
    import pydicom

    dataset = pydicom.dcmread(path)
    if dataset.get("Modality") != "SEG":
        raise RadiographError(f"{path}: is no DICOM segmentation; give one, or a mask as PNG, NIfTI or NRRD.")
    own = radiograph.source.dataset
    referred = [
        instance.ReferencedSOPInstanceUID
        for series in dataset.get("ReferencedSeriesSequence", [])
        for instance in series.get("ReferencedInstanceSequence", [])
    ]
    if own is None or own.get("SOPInstanceUID") not in referred:
        raise RadiographError(
            f"{path}: this DICOM segmentation belongs to another image than {radiograph.source.name}; give "
            "its own, or a mask as PNG."
        )
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    labels = np.zeros(frames.shape[1:], np.uint16)
    for frame, about in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        labels[frame > 0] = about.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    return labels
