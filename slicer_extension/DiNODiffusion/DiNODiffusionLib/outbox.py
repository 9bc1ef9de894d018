"""Labels that could not be handed in yet, kept on disk until they can."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ENTRY, LABEL, PICTURE = "label.json", "label.file", "image.file"


@dataclass(frozen=True)
class Waiting:
    """One label layer; `image` is empty where the image itself is not on the server yet (PICTURE).
    `absent`: names of what the image does not show."""

    folder: str
    server: str
    image: str
    name: str
    tag: str
    names: dict[str, int]
    saved: str
    absent: tuple[str, ...] = ()

    def content(self, file: str = LABEL) -> bytes:
        return (Path(self.folder) / file).read_bytes()

    def done(self) -> None:
        """Handed in: the folder goes, its description first, so that nothing is handed in twice."""
        (Path(self.folder) / ENTRY).unlink()
        for file in Path(self.folder).iterdir():
            file.unlink()
        Path(self.folder).rmdir()


class Outbox:
    """A folder of labels. A label is there when its description is, which is written last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(
        self,
        server: str,
        image: str,
        name: str,
        layers: Iterable[tuple[str, bytes, dict[str, int], tuple[str, ...]]],
        picture: bytes = b"",
    ) -> list[Waiting]:
        """Keeps `(tag, label file, names, absent)` layers; returns once they are on the disk."""
        kept = []
        for tag, content, names, absent in layers:
            place = self.folder / (time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:8])
            place.mkdir(parents=True)
            now = time.strftime("%Y-%m-%d %H:%M")
            entry = Waiting(str(place), server, image, name, tag, names, now, absent)
            write_safely(place / LABEL, content)
            if picture:
                write_safely(place / PICTURE, picture)
            write_safely(place / ENTRY, json.dumps(asdict(entry)).encode())
            kept.append(entry)
        return kept

    def waiting(self, server: str) -> list[Waiting]:
        """What waits for this server, or was saved while none was connected; the oldest first."""
        found = []
        for file in sorted(self.folder.glob(f"*/{ENTRY}")):
            try:
                told = json.loads(file.read_bytes())
                entry = Waiting(**{**told, "folder": str(file.parent)})
            except (ValueError, TypeError):
                continue
            if entry.server in (server, ""):
                found.append(entry)
        return found


def write_safely(path: Path, content: bytes) -> None:
    """The file is either whole and on the disk, or not there."""
    temporary = path.with_suffix(path.suffix + ".part")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
