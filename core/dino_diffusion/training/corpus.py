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
    """One image: a file, or `length` bytes at `offset` inside a shard."""

    key: str
    source: str
    path: Path
    offset: int = 0
    length: int | None = None

    def read(self) -> np.ndarray:
        """Grey pixels `(H, W)` float32 in [0, 1]."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(-1 if self.length is None else self.length)
        with Image.open(io.BytesIO(data)) as picture:
            depth = 65535.0 if picture.mode.startswith("I") else 255.0
            grey = picture if picture.mode.startswith(("I", "F")) else picture.convert("L")
            return np.asarray(grey, dtype=np.float32) / depth


def load_corpus(
    data: str | Path,
    splits: Iterable[str] = (),
    sources: Iterable[str] = (),
    limit: int | None = None,
) -> list[CorpusItem]:
    """Items of `data`: a folder of pictures, a `.csv` list, or a folder or file of `.tar` shards.

    A CSV has a column `image` (path beside the CSV) and, optionally, `id`, `source`, `split`; `splits` and
    `sources` keep the rows that match. Raises `ConfigurationError` if nothing is found.
    """
    data = Path(data)
    if data.suffix == ".csv":
        items = _from_csv(data, set(splits), set(sources))
    elif data.suffix == ".tar":
        items = _from_shard(data)
    elif data.is_dir() and (shards := sorted(data.glob("*.tar"))):
        items = [item for shard in shards for item in _from_shard(shard)]
    elif data.is_dir():
        files = sorted(path for path in data.rglob("*") if path.suffix.lower() in PICTURES)
        items = [CorpusItem(str(path.relative_to(data)), path.parent.name, path) for path in files]
    else:
        raise ConfigurationError(f"{data}: no training data there; name a folder, a .csv list or .tar shards.")
    if not items:
        raise ConfigurationError(f"{data}: no image fits; check the split and source filters.")
    return items[:: max(1, len(items) // limit)][:limit] if limit else items


def _from_csv(path: Path, splits: set[str], sources: set[str]) -> list[CorpusItem]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "image" not in rows[0]:
        raise ConfigurationError(f"{path}: the list has no column 'image'; name the picture files in one.")
    return [
        CorpusItem(row.get("id") or row["image"], row.get("source", ""), path.parent / row["image"])
        for row in rows
        if (not splits or row.get("split") in splits) and (not sources or row.get("source") in sources)
    ]


def _from_shard(path: Path) -> list[CorpusItem]:
    """WebDataset layout: `key.webp` (or another picture) and, optionally, `key.json` with `source`."""
    pictures: dict[str, tarfile.TarInfo] = {}
    sources: dict[str, str] = {}
    with tarfile.open(path) as shard:
        for member in shard:
            key, _, suffix = member.name.rpartition(".")
            if f".{suffix.lower()}" in PICTURES:
                pictures[key] = member
            elif suffix == "json" and (file := shard.extractfile(member)):
                sources[key] = json.load(file).get("source", "")
    return [
        CorpusItem(key, sources.get(key, ""), path, member.offset_data, member.size)
        for key, member in pictures.items()
    ]
