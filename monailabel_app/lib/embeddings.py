"""Learnt segments: versions of segment embeddings on disk, one of which is in use."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from dino_diffusion.codes import FIRST_LEARNT
from dino_diffusion.errors import EmbeddingError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.models import ModelBundle
from dino_diffusion.segmentation.embedding import SegmentEmbedding
from monailabel_app.lib.errors import NotFound, RequestError

logger = logging.getLogger(__name__)

LONGEST_NAME = 48
PLAIN = re.compile(r"[A-Za-z0-9 _-]*[A-Za-z0-9][A-Za-z0-9 _-]*")
INDEX = "segment.json"
LAST_VALUE = 255


@dataclass
class Version:
    """One training. `dice` on labels it never saw, `before` that of the version in use then, on the same.

    Both are None where there was nothing to compare.
    """

    version: int
    created: str
    images: list[str]
    dice: float | None = None
    before: float | None = None
    activated: bool = True


@dataclass
class Learnt:
    """One structure. `active` is the version in use. `checks`: images that are kept back from learning."""

    name: str
    value: int
    active: int = 0
    versions: list[Version] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Images in the order in which they were first offered, learnt from or kept back."""
    drawn_as: str = ""
    """What it was called in the labels when it was last learnt under another name."""

    def names(self, label: str) -> list[str]:
        """What it may be called in a label, `label` before all.

        Who calls it otherwise than it was drawn finds it under its new name in the next image, and corrects
        it there. Learnt under yet another name, the one before is no longer asked for: it was a mistake.
        """
        renamed = label.casefold() == self.name.casefold() and self.drawn_as
        return [label, self.drawn_as] if renamed else [label, self.name]

    @property
    def slug(self) -> str:
        """For file and task names."""
        return slug_of(self.name)


class Embeddings:
    """`<folder>/<slug>/segment.json` beside `v<number>.safetensors`. No version is ever overwritten.

    `changed` is called when a version was added or activated.
    """

    def __init__(self, bundle: ModelBundle, folder: Path) -> None:
        self.folder = folder
        self.model = bundle.observing_id
        self.changed: Callable[[], None] = lambda: None
        self._lock = RLock()
        self._loaded: dict[Path, SegmentEmbedding] = {}

    def all(self) -> dict[str, Learnt]:
        """What has been learnt, by slug, in order of label values; a damaged one is left out and logged."""
        found = []
        for path in self.folder.glob(f"*/{INDEX}"):
            try:
                found.append(_read(path))
            except EmbeddingError as error:
                logger.warning("%s", error)
        return {learnt.slug: learnt for learnt in sorted(found, key=lambda learnt: learnt.value)}

    def get(self, name: str) -> Learnt:
        """By name or slug. Raises NotFound."""
        known = self.all()
        found = known.get(slug_of(name))
        if found is None or not found.active:
            listed = ", ".join(learnt.name for learnt in known.values()) or "none yet"
            raise NotFound(f"No segment '{name[:64]}' has been learnt; there is {listed}.")
        return found

    def open(self, name: str, version: int | None = None) -> SegmentEmbedding:
        """The version in use, or another one. Raises NotFound and EmbeddingError."""
        learnt = self.get(name)
        path = self._path(learnt, learnt.active if version is None else version)
        with self._lock:
            if path not in self._loaded:
                self._loaded[path] = SegmentEmbedding.load(path)
            return self._loaded[path]

    def fits(self, learnt: Learnt) -> bool:
        """Whether the version in use was learnt for this model."""
        try:
            return bool(learnt.active) and self.open(learnt.name).model == self.model
        except EmbeddingError:
            return False

    def plan(self, name: str) -> Learnt:
        """What a training of `name` goes on from; a new one gets a free value. Raises RequestError."""
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise RequestError(f"A learnt segment's name has 1 to {LONGEST_NAME} printable letters.")
        known = self.all()
        if (found := known.get(slug_of(name))) is not None:
            return found
        taken = {learnt.value for learnt in known.values()}
        free = (value for value in range(FIRST_LEARNT, LAST_VALUE + 1) if value not in taken)
        if (value := next(free, None)) is None:
            raise RequestError("All label values are taken; remove a learnt segment first.")
        return Learnt(name, value)

    def add(self, learnt: Learnt, embedding: SegmentEmbedding, version: Version) -> Learnt:
        """Keeps a version, and uses it where it says so. Learning of the same name meanwhile is not lost."""
        with self._lock:
            current = self.all().get(learnt.slug) or learnt
            version.version = max((known.version for known in current.versions), default=0) + 1
            version.created = datetime.now(UTC).isoformat(timespec="seconds")
            embedding.save(self._path(current, version.version))
            current.versions.append(version)
            current.checks, current.seen = learnt.checks, learnt.seen
            current.drawn_as = learnt.drawn_as
            if version.activated:
                current.active = version.version
            self._write(current)
        self.changed()
        return current

    def activate(self, name: str, version: int) -> Learnt:
        """Uses a version from now on, an older one too: roll-back. Raises NotFound."""
        with self._lock:
            learnt = self.get(name)
            numbers = [known.version for known in learnt.versions]
            if version not in numbers:
                listed = ", ".join(map(str, numbers))
                raise NotFound(f"'{learnt.name}' has no version {version}; it has {listed}.")
            self.open(name, version)
            learnt.active = version
            self._write(learnt)
        self.changed()
        return learnt

    def entries(self) -> list[dict[str, Any]]:
        """For `GET /embeddings`: each with `model` (its infer task), `active`, `versions`, `fits`."""
        return [
            {
                "name": learnt.name,
                "model": task_name(learnt),
                "value": learnt.value,
                "active": learnt.active,
                "fits": self.fits(learnt),
                "versions": [asdict(version) for version in learnt.versions],
            }
            for learnt in self.all().values()
        ]

    def _path(self, learnt: Learnt, version: int) -> Path:
        return self.folder / learnt.slug / f"v{version:04d}.safetensors"

    def _write(self, learnt: Learnt) -> None:
        with atomic_path(self.folder / learnt.slug / INDEX) as temporary:
            temporary.write_text(json.dumps(asdict(learnt), indent=1) + "\n")


def slug_of(name: str) -> str:
    """`Left Clavicle` is `left_clavicle`; a name with other than English letters ends in a hash of it."""
    folded = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "_", folded).strip("_")
    if PLAIN.fullmatch(name):
        return slug
    return f"{slug or 'segment'}_{hashlib.sha256(name.casefold().encode()).hexdigest()[:6]}"


def task_name(learnt: Learnt) -> str:
    """Of the infer task that finds it."""
    return f"segment_{learnt.slug}"


def _read(path: Path) -> Learnt:
    try:
        stored = json.loads(path.read_text())
        versions = [Version(**version) for version in stored.pop("versions")]
        return Learnt(versions=versions, **stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EmbeddingError(
            f"{path}: is damaged; restore it from a backup, or remove its folder."
        ) from error
