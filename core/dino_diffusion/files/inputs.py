"""Which files a list of files and folders means, and how their results are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.formats import DICOM_PREAMBLE, stem_of, suffix_of


def list_inputs(paths: Sequence[str | Path], results: Path | None = None) -> list[Path]:
    """Files as given, folders as the readable files in them and below, sorted; each file once.

    In a folder a file counts by its ending, or by its content where it is a DICOM file without one; hidden
    files, DICOMDIR and what lies in the folder `results` further down do not count: they would be an earlier
    run's. A file named outright always counts, so that its error is reported.
    Raises RadiographError where nothing is left.
    """
    found: dict[Path, Path] = {}
    for path in (Path(entry) for entry in paths):
        # os.path.isdir: for what cannot even be asked about, such as an endless name, pathlib raises.
        for file in _inside(path, results) if os.path.isdir(path) else [path]:
            found.setdefault(file.resolve(), file)
    if not found:
        named = ", ".join(str(path) for path in paths) or "the list"
        raise RadiographError(f"{named}: no radiograph in it; name a file, or a folder that holds some.")
    return list(found.values())


def output_names(paths: Sequence[Path]) -> list[str]:
    """A stem for each input, in order; a second one of the same name gets -2, the next -3.

    Upper and lower case count as the same: some file systems cannot hold both.
    """
    stems = [stem_of(path) for path in paths]
    reserved = {stem.casefold() for stem in stems}
    used: set[str] = set()
    names = []
    for stem in stems:
        name, number = stem, 1
        while name.casefold() in used or (number > 1 and name.casefold() in reserved):
            number += 1
            name = f"{stem}-{number}"
        used.add(name.casefold())
        names.append(name)
    return names


def _inside(folder: Path, results: Path | None) -> list[Path]:
    own = results.resolve() if results else None
    apart = own is not None and folder.resolve() in own.parents
    return sorted(
        path
        for path in folder.rglob("*")
        if _counts(path, folder) and not (apart and own in path.resolve().parents)
    )


def _counts(path: Path, folder: Path) -> bool:
    if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
        return False
    if suffix_of(path):
        return True
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(DICOM_PREAMBLE + 4)[DICOM_PREAMBLE:] == b"DICM"
    except OSError:
        return False
