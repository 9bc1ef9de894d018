"""Which images a folder, a CSV list or a mix of both means, and what a list says of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.files.inputs import list_inputs


@dataclass(frozen=True)
class ListedImages:
    """`files`, and the values that lists gave in their columns `licence` and `source`, each once."""

    files: tuple[Path, ...]
    licences: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def list_images(paths: Sequence[Path], where: Mapping[str, str] | None = None) -> ListedImages:
    """Images of files, folders and CSV lists (column `image`: a path beside the list).

    `where`: of a list only rows whose columns have these values, or hold them among several parted by '|'.
    Raises ConfigurationError for a list that is none, or that has no such row; RadiographError where nothing
    is left.
    """
    files: list[Path] = []
    rows: list[dict[str, str]] = []
    for path in paths:
        if path.suffix.lower() != ".csv":
            files += list_inputs([path])
            continue
        chosen = [row for row in read_rows(path) if _matches(row, where or {})]
        if not chosen:
            wanted = " and ".join(f"{column} = {value}" for column, value in (where or {}).items())
            raise ConfigurationError(
                f"{path}: has no row{f' with {wanted}' if wanted else ''}; look into the list."
            )
        rows += chosen
        files += [path.parent / row["image"] for row in chosen]
    said = [sorted({row[name] for row in rows if row.get(name)}) for name in ("licence", "source")]
    return ListedImages(tuple(list_inputs(files)), *map(tuple, said))


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV list's rows. Raises ConfigurationError for a file that is none, or has no column `image`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigurationError(f"{path}: cannot be read; save the list as CSV in UTF-8.") from error
    if rows and not rows[0].get("image"):
        raise ConfigurationError(f"{path}: the list has no column 'image'; name the image files in one.")
    return rows


def _matches(row: Mapping[str, str], where: Mapping[str, str]) -> bool:
    for column, value in where.items():
        if column not in row:
            raise ConfigurationError(
                f"The list has no column '{column}'; it has {', '.join(str(name) for name in row)}."
            )
        if value != row[column] and value not in (row[column] or "").split("|"):
            return False
    return True
