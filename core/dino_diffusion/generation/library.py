"""The concepts that travel with the package, and finding one by its name.

They were learnt for the default bundle from NIH ChestX-ray14 (`nih/...`) and from Shenzhen (`tb/...`), each
set within one source, so that a class is not told by where its images come from.
"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path

from dino_diffusion.errors import ConceptError
from dino_diffusion.generation.concept import ENDING, Concept

ALIASES = {"healthy": "nih/normal"}


def shipped_folder() -> Path:
    """Folder of the concepts that travel with the package: `SET/NAME.safetensors`."""
    return Path(str(resources.files("dino_diffusion") / "concepts"))


def shipped() -> dict[str, Path]:
    """Files of the shipped concepts by their names, such as `nih/effusion`."""
    folder = shipped_folder()
    files = sorted(folder.glob(f"*/*{ENDING}"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def find_concept(name: str | Path) -> Concept:
    """A concept by its file, or a shipped one by its name: `nih/effusion`, `healthy`, or `effusion` alone.

    A short name means the set that stands first in `shipped` where several have it. Raises ConceptError for
    a name that nothing has.
    """
    text = str(name)
    if text.endswith(ENDING) or Path(text).is_file():
        return Concept.load(text)
    known = shipped()
    wanted = ALIASES.get(text, text)
    matches = [full for full in known if wanted in (full, full.partition("/")[2])]
    if not matches:
        names = ", ".join([*known, *(alias for alias, full in ALIASES.items() if full in known)])
        raise ConceptError(
            f"There is no concept '{text}'; name one of {names or '(none is shipped)'}, or the "
            f"{ENDING} file of one that `dino-diffusion invert` learnt."
        )
    return Concept.load(known[matches[0]])


def find_weighted(text: str) -> tuple[Concept, float]:
    """The concept of `NAME` or `NAME:WEIGHT`, see `split_weight`. Raises ConceptError for an unknown name."""
    name, weight = split_weight(text)
    return find_concept(name), weight


def split_weight(text: str) -> tuple[str, float]:
    """`NAME:WEIGHT`, such as `effusion:0.7`, in two; the weight is 1 where none is said.

    A negative weight leads away from the concept.
    """
    name, colon, tail = text.rpartition(":")
    try:
        weight = float(tail) if colon and name else math.nan
    except ValueError:
        weight = math.nan
    return (name, weight) if math.isfinite(weight) else (text, 1.0)
