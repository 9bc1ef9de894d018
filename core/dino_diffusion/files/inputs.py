"""Which files a list of files and folders means, and how their results are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.formats import DICOM_PREAMBLE, stem_of, suffix_of


def list_inputs(paths: Sequence[str | Path]) -> list[Path]:
    """Files as given, folders as the readable files in them and below, sorted; each file once.

    In a folder a file counts by its ending, or by its content where it is a DICOM file without one; hidden
    files and DICOMDIR do not count. A file named outright always counts, so that its error is reported.
    Raises RadiographError where nothing is left.
    """
    found: dict[Path, Path] = {}
    for path in (Path(entry) for entry in paths):
        inside = sorted(p for p in path.rglob("*") if _counts(p, path)) if path.is_dir() else [path]
        for file in inside:
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
