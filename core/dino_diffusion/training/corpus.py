"""Training images: from a folder, a CSV list, or WebDataset shards; any mix of sources.

Only Pillow is needed to read them, so a bare GPU machine can train.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dino_diffusion.errors import ConfigurationError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class CorpusItem:
    """One image: a file, or `length` bytes at `offset` inside a shard. Texts are "" where nobody says."""

    key: str
    source: str
    path: Path
    offset: int = 0
    length: int | None = None
    split: str = ""
    patient: str = ""
    licence: str = ""

    def data(self) -> bytes:
        """The picture file's bytes."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.length is None else self.length)

    def read(self) -> np.ndarray:
        """Grey pixels `(H, W)` float32 in [0, 1]. Raises ConfigurationError for what is no picture."""
        try:
            with Image.open(io.BytesIO(self.data())) as picture:
                deep = picture.mode.startswith(("I", "F"))
                grey = picture if deep else picture.convert("L")
                return np.asarray(grey, dtype=np.float32) / (65535.0 if deep else 255.0)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ConfigurationError(
                f"{self.path}: training image '{self.key}' cannot be read ({error}); repair or remove it."
            ) from error


def load_corpus(
    data: str | Path,
    splits: Iterable[str] = (),
    sources: Iterable[str] = (),
    limit: int | None = None,
) -> list[CorpusItem]:
    """Items of `data`: a folder of pictures, a `.csv` list, or a folder or file of `.tar` shards.

    A CSV has a column `image` (path beside the CSV) and, optionally, `id`, `source`, `split`, `patient_id`,
    `licence`; a shard has these in a JSON beside each picture; in a folder the first sub-folder is the split,
    the last the source.
    `splits` and `sources` keep the items that match. Raises `ConfigurationError` if nothing is found.
    """
    if not str(data):
        raise ConfigurationError(
            "No training data is named; set data.path to a folder, a .csv list or .tar shards."
        )
    data = Path(data)
    items = _read(data)
    if not items:
        raise ConfigurationError(
            f"{data}: no picture there; name a folder, a .csv list or .tar shards with some."
        )
    splits, sources = set(splits), set(sources)
    kept = [
        item
        for item in items
        if (not splits or item.split in splits) and (not sources or item.source in sources)
    ]
    if not kept:
        raise ConfigurationError(
            f"{data}: no image has splits {_names(splits)} and sources {_names(sources)}; the data has "
            f"splits {_names({i.split for i in items})} and sources {_names({i.source for i in items})}."
        )
    return kept[:: max(1, len(kept) // limit)][:limit] if limit else kept


def _names(names: set[str]) -> str:
    return ", ".join(sorted(repr(name) for name in names)[:8]) or "(all)"


def _read(data: Path) -> list[CorpusItem]:
    if data.suffix == ".csv" and data.is_file():
        return _from_csv(data)
    if data.suffix == ".tar" and data.is_file():
        return _from_shard(data)
    if not data.is_dir():
        raise ConfigurationError(
            f"{data}: no training data there; name a folder, a .csv list or .tar shards."
        )
    if shards := sorted(data.glob("*.tar")):
        return [item for shard in shards for item in _from_shard(shard)]
    return [_from_folder(data, path) for path in sorted(data.rglob("*")) if path.suffix.lower() in PICTURES]


def _from_folder(data: Path, path: Path) -> CorpusItem:
    folders = path.relative_to(data).parts[:-1]
    return CorpusItem(
        str(path.relative_to(data)), path.parent.name, path, split=folders[0] if folders else ""
    )


def _from_csv(path: Path) -> list[CorpusItem]:
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(
            f"{path}: not a readable list ({error}); save it as CSV in UTF-8."
        ) from error
    if rows and "image" not in rows[0]:
        raise ConfigurationError(f"{path}: the list has no column 'image'; name the picture files in one.")
    return [
        CorpusItem(
            row.get("id") or row["image"],
            row.get("source") or "",
            path.parent / row["image"],
            split=row.get("split") or "",
            patient=row.get("patient_id") or "",
            licence=row.get("licence") or "",
        )
        for row in rows
    ]


def _from_shard(path: Path) -> list[CorpusItem]:
    """WebDataset layout: `key.webp` (or another picture) and `key.json` with a CSV's other columns."""
    pictures: dict[str, tarfile.TarInfo] = {}
    about: dict[str, dict[str, str]] = {}
    try:
        with tarfile.open(path) as shard:
            for member in shard:
                key, _, suffix = member.name.rpartition(".")
                if f".{suffix.lower()}" in PICTURES:
                    pictures[key] = member
                elif suffix == "json" and (file := shard.extractfile(member)):
                    about[key] = json.load(file)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise ConfigurationError(f"{path}: not a readable shard ({error}); copy or pack it again.") from error
    return [
        CorpusItem(
            about.get(key, {}).get("id", key),
            about.get(key, {}).get("source", ""),
            path,
            member.offset_data,
            member.size,
            about.get(key, {}).get("split", ""),
            about.get(key, {}).get("patient_id", ""),
            about.get(key, {}).get("licence", ""),
        )
        for key, member in pictures.items()
    ]
