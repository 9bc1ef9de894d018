"""The concepts that can be painted: those that travel with the package, and the server's own."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from dino_diffusion.errors import ConceptError
from dino_diffusion.generation.concept import ENDING, Concept, model_id
from dino_diffusion.generation.library import ALIASES, shipped, split_weight
from dino_diffusion.generation.weighted import Weighted
from dino_diffusion.models import ModelBundle
from monailabel_app.lib.errors import NotFound, RequestError

logger = logging.getLogger(__name__)

NONE = "none"
"""No concept: what the surroundings suggest."""

MOST = 8


class Concepts:
    """By name alone: a request never names a file. `folder` holds the server's own `<name>.safetensors`."""

    def __init__(self, bundle: ModelBundle, folder: Path) -> None:
        self.folder = folder
        self.model = model_id(bundle)

    def files(self) -> dict[str, Path]:
        """Every concept's file by its name; the server's own come first."""
        own = {path.name.removesuffix(ENDING): path for path in sorted(self.folder.glob(f"*{ENDING}"))}
        return own | {name: path for name, path in shipped().items() if name not in own}

    def readable(self) -> dict[str, Concept]:
        """All of them; a damaged file is left out and logged."""
        found = {}
        for name, path in self.files().items():
            try:
                found[name] = _loaded(path)
            except (OSError, ConceptError) as error:
                logger.warning("%s", error)
        return found

    def names(self) -> list[str]:
        """Those that were learnt for this model, and the short names of some."""
        fitting = [name for name, concept in self.readable().items() if concept.model == self.model]
        return [*(alias for alias, full in ALIASES.items() if full in fitting), *fitting]

    def find(self, name: str) -> Concept:
        """By its name, an alias, or the last part of a shipped one's name. Raises NotFound, ConceptError."""
        files = self.files()
        wanted = name if name in files else ALIASES.get(name, name)
        found = [path for full, path in files.items() if wanted in (full, full.rpartition("/")[2])]
        if not found:
            known = ", ".join(self.names()) or "(none fits this model)"
            raise NotFound(f"There is no concept '{name[:64]}'; choose one of {known}.")
        return _loaded(found[0])

    def weighted(self, text: str) -> list[Weighted]:
        """Of `NAME[:WEIGHT]+NAME[:WEIGHT]...`, "" and `none` for no concept. Raises as `find` does."""
        if text.strip() in ("", NONE):
            return []
        parts = [split_weight(part.strip()) for part in text.split("+")]
        if len(parts) > MOST or any(abs(weight) > 20 for _, weight in parts):
            raise RequestError(f"Name at most {MOST} concepts, with weights from -20 to 20.")
        return [(self.find(name), weight) for name, weight in parts]

    def entries(self) -> list[dict[str, Any]]:
        """For `GET /concepts`: `name`, `title`, `licence`, `alias`, `images`, `fits` of each."""
        aliases = {full: alias for alias, full in ALIASES.items()}
        return [
            {
                "name": name,
                "title": concept.description or concept.name,
                "licence": concept.licence,
                "alias": aliases.get(name),
                "images": concept.images,
                "fits": concept.model == self.model,
            }
            for name, concept in self.readable().items()
        ]


def _loaded(path: Path) -> Concept:
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _read(path: Path, _changed: int) -> Concept:
    return Concept.load(path)
