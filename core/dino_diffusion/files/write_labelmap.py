"""Labelmaps: always lossless, always on the pixel grid of the file they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.files.formats import suffix_of
from dino_diffusion.files.write_array import write_itk, write_nifti, write_png, write_tiff

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Labelmap, Source

ENDINGS = {
    "png": ".png",
    "nii.gz": ".nii.gz",
    "nrrd": ".nrrd",
    "dcmseg": ".dcm",
    "mha": ".mha",
    "tiff": ".tif",
}
SAME = {"nifti": "nii.gz", "nrrd": "nrrd", "mha": "mha", "tiff": "tiff", "dicom": "dcmseg"}
FORMATS = ("png", "nii.gz", "nrrd", "dcmseg", "same")


def default_format(source: Source) -> str:
    """What `segment` writes when nothing is asked: DICOM SEG for DICOM, else PNG."""
    return "dcmseg" if source.format == "dicom" else "png"


def write_labelmap(
    labelmap: Labelmap, destination: str | Path, format: str | None = None, name: str | None = None
) -> Path:
    """Write to a file, or as `name` (default: the source's) into a folder, and return the file's path.

    A destination with a known ending that is no folder is the file itself. `same` is the source's format
    where that is lossless, else PNG; None is `default_format`. Raises RadiographError for an unknown
    format, DICOM SEG without a DICOM source, or a place that cannot be written to.
    """
    source = labelmap.radiograph.source
    chosen = format or default_format(source)
    chosen = SAME.get(source.format, "png") if chosen == "same" else chosen
    if chosen not in ENDINGS:
        raise RadiographError(f"{format}: no such labelmap format; choose one of {', '.join(FORMATS)}.")
    if chosen == "dcmseg" and source.dataset is None:
        raise RadiographError(
            f"{source.name}: DICOM SEG needs a DICOM radiograph to refer to; choose png, nii.gz or nrrd."
        )
    path = Path(destination)
    if path.is_dir() or not suffix_of(path):
        path = path / f"{name or source.name}{ENDINGS[chosen]}"
    with atomic_path(path) as temporary:
        _write(temporary, labelmap, chosen)
    return path


def _write(path: Path, labelmap: Labelmap, chosen: str) -> None:
    source = labelmap.radiograph.source
    if chosen == "png":
        write_png(path, source.grid.stored_plane(labelmap.labels), None)
    elif chosen == "tiff":
        write_tiff(path, source.grid.stored_plane(labelmap.labels), None, bright_is_dense=True)
    elif chosen == "nii.gz":
        write_nifti(path, source.grid.stored(labelmap.labels), source, None, is_label=True)
    elif chosen == "dcmseg":
        from dino_diffusion.files.dicom_seg import write_dicom_seg

        write_dicom_seg(path, labelmap)
    else:
        write_itk(path, source.grid.stored(labelmap.labels), source, None)
