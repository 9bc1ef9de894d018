"""A synthetic data set before it is made: what it is drawn from, how, and which file shows what.

Picture k depends on the pool, the settings and k alone, not on how many are asked for or who makes them: so a
stopped set goes on, a finished one can grow, and several processes share the work without talking.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dino_diffusion import __version__
from dino_diffusion.errors import ConfigurationError, DinoDiffusionError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.files.labelled_list import LabelledImage, by_label
from dino_diffusion.generation.embedding import FEWEST
from dino_diffusion.generation.recipe import ENDING, Recipe, hash_of_set
from dino_diffusion.generation.sampled import DEFAULT_STEPS

CLASS_MEAN, CONCEPT, LIKE = METHODS = ("class-mean", "concept", "like")
DEFAULT_INVERSION_STEPS = 60
MOST_OF_A_LABEL = 100_000
"""Pictures of a label; the noise of the next label starts there, so that no two pictures share theirs."""

NOTE, MANIFEST, CONCEPTS = "synthesis.json", "manifest.csv", "concepts"


@dataclass(frozen=True)
class SynthesisSettings:
    """How pictures come from the pool.

    method: class-mean draws embeddings from the mean and the spread (PCA) of each label's images; concept
    learns vectors from them in `inversion_steps`; like makes variants of one image after the other.
    guidance: None for what each of these usually takes.
    jitter, strength: see `Variation`; strength is for like alone, and concept has neither. Raises
    ConfigurationError for what is unknown or has no effect.
    """

    method: str = CLASS_MEAN
    seed: int = 0
    steps: int = DEFAULT_STEPS
    guidance: float | None = None
    jitter: float = 0.0
    strength: float = 1.0
    inversion_steps: int = DEFAULT_INVERSION_STEPS

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(f"There is no method '{self.method}'; use one of {', '.join(METHODS)}.")
        if (self.strength < 1 and self.method != LIKE) or (self.jitter and self.method == CONCEPT):
            raise ConfigurationError(
                f"Method '{self.method}' starts from no image and its embedding: leave strength to 'like', "
                "and jitter to 'like' and 'class-mean'."
            )


@dataclass(frozen=True)
class Label:
    """One label of a pool: what it is called, in file names too, and its images."""

    number: int
    text: str
    name: str
    images: tuple[Path, ...]


@dataclass(frozen=True)
class Planned:
    """Picture `index` of a label."""

    label: Label
    index: int

    @property
    def file(self) -> str:
        """Its name in the data set's folder."""
        return f"{self.label.name}_{self.index:05d}.png"

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return f"{self.label.name}_{self.index:05d}{ENDING}"

    @property
    def noise(self) -> int:
        """Number of its noise."""
        return self.label.number * MOST_OF_A_LABEL + self.index

    def there(self, folder: Path) -> bool:
        """Whether both files are there, for what they are worth."""
        return (folder / self.file).is_file() and (folder / self.recipe).is_file()

    def made(self, folder: Path) -> Recipe | None:
        """Its recipe where image and recipe are there, whole, and belong together."""
        if not self.there(folder):
            return None
        try:
            recipe = Recipe.read(folder / self.recipe)
            return recipe if Recipe.read(folder / self.file) == recipe else None
        except DinoDiffusionError:
            return None


@dataclass(frozen=True)
class Synthesis:
    """A data set of `count` pictures in `folder`, spread evenly over the labels of a pool."""

    labels: tuple[Label, ...]
    count: int
    folder: Path
    settings: SynthesisSettings

    @classmethod
    def of(
        cls, pool: Sequence[LabelledImage], count: int, folder: Path, settings: SynthesisSettings
    ) -> Synthesis:
        """Raises ConfigurationError where a label has too few images, or `count` is impossible."""
        sorted_pool = by_label(list(pool))
        names = _names(list(sorted_pool))
        labels = tuple(
            Label(number, text, name, tuple(image.path for image in images))
            for number, (name, (text, images)) in enumerate(zip(names, sorted_pool.items(), strict=True))
        )
        if not labels or not len(labels) <= count <= MOST_OF_A_LABEL:
            raise ConfigurationError(
                f"Cannot spread {count} pictures over {len(labels)} labels; ask for {max(1, len(labels))} to "
                f"{MOST_OF_A_LABEL}."
            )
        for label in labels:
            if settings.method == CLASS_MEAN and len(label.images) < FEWEST:
                raise ConfigurationError(
                    f"Label '{label.text}' has {len(label.images)} images, a mean with its spread takes at "
                    f"least {FEWEST}; list more of them, or use the method '{LIKE}'."
                )
        return cls(labels, count, folder, settings)

    def planned(self) -> list[Planned]:
        """Every picture, label after label within each round."""
        return [Planned(self.labels[k % len(self.labels)], k // len(self.labels)) for k in range(self.count)]

    def batches(self, most: int) -> list[list[Planned]]:
        """The same in batches of up to `most` neighbours of one label."""
        planned = self.planned()
        of_labels = [[item for item in planned if item.label is label] for label in self.labels]
        found = [items[k : k + most] for items in of_labels for k in range(0, len(items), most)]
        # All labels grow alike: a stopped set can be used as far as it goes.
        return sorted(found, key=lambda part: (part[0].index, part[0].label.number))

    def concept_file(self, label: Label) -> Path:
        """Where the concept of a label is kept."""
        return self.folder / CONCEPTS / f"{label.name}.safetensors"

    def claim(self, bundle_id: str) -> None:
        """Notes in the folder what it holds. Raises ConfigurationError where it holds another data set."""
        note = self.folder / NOTE
        text = json.dumps(self._about(bundle_id), indent=1, sort_keys=True) + "\n"
        if note.exists() and note.read_text(encoding="utf-8", errors="replace") != text:
            raise ConfigurationError(
                f"{self.folder}: holds a data set of another pool, bundle, version or settings ({NOTE} says "
                "which); name another folder."
            )
        with atomic_path(note) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _about(self, bundle_id: str) -> dict[str, Any]:
        pool = {label.text: hash_of_set(map(_hash_of_file, label.images)) for label in self.labels}
        return {
            "bundle": bundle_id,
            "version": __version__,
            "pool": pool,
            **asdict(self.settings),
        }


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(labels: Sequence[str]) -> list[str]:
    """What file systems and concepts take for a name, one a label, told apart also without upper case."""
    found: list[str] = []
    for number, label in enumerate(labels):
        name = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[:40] or f"label-{number}"
        if name.casefold() in {other.casefold() for other in found}:
            name = f"{name}-{number}"
        found.append(name)
    return found
