"""Edited and synthetic images, in the format of their source, marked in the metadata only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.files.formats import SUFFIXES, format_of_suffix, suffix_of
from dino_diffusion.files.write_array import write_itk, write_nifti, write_png, write_tiff

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Radiograph, Source

LOSSLESS = ("png", "tiff", "nifti", "nrrd", "mha", "dicom")


def image_format(source: Source) -> str:
    """The source's own format where it is lossless, else PNG; DICOM stays DICOM, uncompressed."""
    if source.format == "dicom":
        return "dicom"
    return source.format if source.format in LOSSLESS and not source.lossy else "png"


def write_image(
    radiograph: Radiograph,
    stored: np.ndarray,
    destination: str | Path,
    synthetic: dict[str, Any] | None = None,
    name: str | None = None,
) -> Path:
    """Write `(H, W)` stored values, turned and typed like `radiograph.stored`; returns the file's path.

    The destination is a file, or a folder for `name` (default: the source's). The ending of a lossless
    format is obeyed, any other replaced by that of `image_format`. `synthetic` is kept as JSON in the
    header: PNG text, TIFF description, NIfTI and NRRD and MHA comment, DICOM private element beside the
    standard's derived-image attributes and an overlay plane. A DICOM file gets new identifiers and no
    patient's data. Raises RadiographError for another shape or dtype, a place that cannot be written to, and
    where the file would replace its own source.
    """
    source = radiograph.source
    if stored.shape != radiograph.shape or stored.dtype != radiograph.stored.dtype:
        raise RadiographError(
            f"{source.name}: an image of {stored.dtype} {stored.shape} does not fit its source, "
            f"{radiograph.stored.dtype} {radiograph.shape}; convert it with to_stored first."
        )
    path = Path(destination)
    suffix = suffix_of(path)
    if path.is_dir() or not suffix:
        path, suffix = path / f"{name or source.name}", ""
    asked = format_of_suffix(suffix)
    chosen = asked if asked in LOSSLESS else image_format(source)
    if asked != chosen or suffix in (".mhd", ".nhdr"):
        # Two-file volumes cannot appear at once; their one-file kin can.
        path = path.with_name(path.name[: len(path.name) - len(suffix)] + SUFFIXES[chosen][0])
    if chosen != source.format and not radiograph.source.bright_is_dense:
        raise RadiographError(
            f"{source.name}: its black is dense, which {chosen} cannot say; write {source.format} instead."
        )
    check_not_original(path, [source.path] if source.path else [])
    with atomic_path(path) as temporary:
        _write(temporary, radiograph, stored, chosen, synthetic)
    return path


def check_not_original(path: Path, originals: Iterable[Path]) -> None:
    """Raises RadiographError where writing to `path` would replace one of the originals."""
    for original in originals:
        if path.exists() and original.exists() and path.samefile(original):
            raise RadiographError(
                f"{path}: the result would replace an original of that name; choose another folder or name."
            )


def _write(
    path: Path, radiograph: Radiograph, stored: np.ndarray, chosen: str, mark: dict[str, Any] | None
) -> None:
    source = radiograph.source
    plane, array = source.grid.stored_plane(stored), source.grid.stored(stored)
    if chosen == "png":
        write_png(path, plane, mark)
    elif chosen == "tiff":
        write_tiff(path, plane, mark, source.bright_is_dense)
    elif chosen == "nifti":
        write_nifti(path, array, source, mark, is_label=False)
    elif chosen == "dicom":
        from dino_diffusion.files.derived_dicom import write_derived_dicom

        write_derived_dicom(path, source, plane, mark)
    else:
        write_itk(path, array, source, mark)
