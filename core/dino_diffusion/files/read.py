"""Open a file of any supported format as a radiograph."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.checks import check_content, check_name
from dino_diffusion.files.formats import READABLE, format_of_content, stem_of, suffix_of
from dino_diffusion.files.grey import GreyMap, range_of
from dino_diffusion.files.grid import Geometry, Grid

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Radiograph


@dataclass
class Decoded:
    """What a reader of one format found: the stored array with its axes, and what else the file says."""

    array: np.ndarray
    grid: Grid
    spacing_mm: tuple[float, float] | None = None
    grey: GreyMap | None = None
    geometry: Geometry | None = None
    dataset: Any = None
    header: Any = None
    bright_is_dense: bool = True
    lossy: bool = False
    synthetic: dict[str, Any] | None = field(default=None)


def read_radiograph(path: Path) -> Radiograph:
    """The radiograph in a file. Raises RadiographError, naming file, problem and remedy."""
    from dino_diffusion.radiograph import Radiograph, Source

    with one_sentence(path):
        file_format, decoded = decode_file(path)
        check_content(str(path), decoded.array)
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    own_order = decoded.array.dtype.newbyteorder("=")
    stored = decoded.grid.picture(decoded.array.astype(own_order, copy=False))
    grey = decoded.grey or range_of(stored, inverted=not decoded.bright_is_dense)
    source = Source(
        name=stem_of(path),
        format=file_format,
        sha256=sha256,
        dtype=stored.dtype,
        grid=decoded.grid,
        path=path,
        geometry=decoded.geometry,
        dataset=decoded.dataset,
        header=decoded.header,
        bright_is_dense=decoded.bright_is_dense,
        lossy=decoded.lossy,
        synthetic=decoded.synthetic,
    )
    spacing = decoded.spacing_mm
    if spacing is not None and decoded.grid.transpose:
        spacing = (spacing[1], spacing[0])
    return Radiograph(grey.shown(stored), stored, spacing, grey, source)


def decode_file(path: Path) -> tuple[str, Decoded]:
    """The format of a file and what its reader found. Raises RadiographError, and what parsers raise."""
    file_format = content_format(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return file_format, _decode(path, file_format)


def content_format(path: Path) -> str:
    """Told from the file's first bytes. Raises RadiographError where it is none that can be read."""
    file_format = format_of_content(_head(path), suffix_of(path))
    if file_format is None:
        raise RadiographError(
            f"{path}: the content is no image that can be read, whatever the name says; give {READABLE}."
        )
    return file_format


@contextmanager
def one_sentence(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes a RadiographError.

    The parsers meet whatever bytes a file holds and raise errors of a dozen kinds; for a person they all mean
    the same, and the cause stays attached for a developer.
    """
    try:
        yield
    except RadiographError:
        raise
    except MemoryError as error:
        raise RadiographError(
            f"{path}: too little memory to read it; free some or shrink the image."
        ) from error
    except Exception as error:
        raise truncated(path) from error


def _head(path: Path) -> bytes:
    check_name(path)
    try:
        if path.is_dir():
            raise RadiographError(f"{path}: this is a folder; give a file in it.")
        with path.open("rb") as stream:
            head = stream.read(512)
    except FileNotFoundError as error:
        raise RadiographError(f"{path}: no such file; check the name.") from error
    except OSError as error:
        raise RadiographError(
            f"{path}: cannot be opened ({error.strerror}); check its permissions."
        ) from error
    if not head:
        raise RadiographError(f"{path}: the file is empty; copy or export it again.")
    return head


def _decode(path: Path, file_format: str) -> Decoded:
    """The reader's answer; each reader is imported only when a file needs it."""
    if file_format == "dicom":
        from dino_diffusion.files.read_dicom import read_dicom

        return read_dicom(path)
    if file_format == "nifti":
        from dino_diffusion.files.read_nifti import read_nifti

        return read_nifti(path)
    if file_format in ("nrrd", "mha"):
        from dino_diffusion.files.read_volume import read_volume

        return read_volume(path)
    if file_format == "tiff":
        from dino_diffusion.files.read_tiff import read_tiff

        return read_tiff(path)
    from dino_diffusion.files.read_picture import read_picture

    return read_picture(path)


def truncated(path: Path) -> RadiographError:
    """The sentence for a file that breaks off or is damaged."""
    return RadiographError(f"{path}: the file is damaged or breaks off early; copy or export it again.")
