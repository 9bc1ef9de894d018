"""How a synthetic image came about: everything needed to make it again, as JSON.

A recipe lies beside the image as `<stem>.recipe.json` and inside the image, in its metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dino_diffusion import __version__
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.files.formats import stem_of
from dino_diffusion.radiograph import Radiograph

MARK = "synthetic: made by dino-diffusion"
ENDING = ".recipe.json"
MOST_BYTES = 1_000_000
"""No recipe is nearly as long: a larger file is something else."""


@dataclass(frozen=True)
class Recipe:
    """`operation` and its `parameters`, the `bundle` by its id, `inputs` by the hash of their files.

    Replayed (`replay.replay`) on the same `device` it gives the same pixels, whose hash is `result`.
    `checks` is what was found about the result, and no part of how it is made. A recipe never holds a path
    or a patient's name.
    """

    operation: str
    bundle: str
    parameters: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    version: str = __version__
    synthetic: str = MARK
    device: str = ""
    result: str = ""
    checks: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The document that goes into a file's metadata."""
        return asdict(self)

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True)

    @classmethod
    def from_dict(cls, document: Any) -> Recipe:
        """Reads `to_dict`. Raises ConfigurationError for anything else."""
        try:
            recipe = cls(**document)
            for name, kind in (("operation", str), ("parameters", dict), ("inputs", dict), ("checks", dict)):
                if not isinstance(getattr(recipe, name), kind):
                    raise TypeError(f"{name} is of another kind")
            if not all(isinstance(value, str) for value in recipe.inputs.values()):
                raise TypeError("inputs are no hashes")
            return recipe
        except TypeError as error:
            raise ConfigurationError(
                f"This is no recipe of dino-diffusion ({error}); pass the {ENDING}, or an image that carries "
                "its recipe."
            ) from error

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Reads `to_json`. Raises ConfigurationError for anything else."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(
                f"This is no recipe of dino-diffusion ({error}); pass the {ENDING}."
            ) from error
        return cls.from_dict(document)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """From a `.json` file, or from the metadata of an image that this package wrote.

        Raises ConfigurationError for a file without a recipe, RadiographError for one that is no image.
        """
        if path.suffix.lower() == ".json":
            return cls.from_json(_text(path))
        mark = Radiograph.read(path).source.synthetic
        if mark is None:
            raise ConfigurationError(
                f"{path}: carries no recipe of dino-diffusion; pass the {ENDING} that was written beside it."
            )
        return cls.from_dict(mark)

    def check_inputs(self, found: Mapping[str, str]) -> None:
        """Raises ConfigurationError unless `found`, hashes by name, are those of the recipe."""
        missing, unknown = sorted({*self.inputs} - {*found}), sorted({*found} - {*self.inputs})
        changed = sorted(name for name in {*self.inputs} & {*found} if self.inputs[name] != found[name])
        for names, problem in (
            (missing, "is missing"),
            (unknown, "is none of the recipe's inputs"),
            (changed, "is not the one of the recipe, its content differs"),
        ):
            if names:
                raise ConfigurationError(
                    f"The input '{names[0]}' {problem}; pass the very files the recipe was made from: "
                    f"{self._wanted()}."
                )

    def _wanted(self) -> str:
        hashes = [f"{name} of SHA-256 {str(value)[:12]}..." for name, value in sorted(self.inputs.items())]
        return ", ".join(hashes) or "none"

    def write_beside(self, image: Path) -> Path:
        """Write `<stem>.recipe.json` beside an image, whole or not at all. Raises RadiographError."""
        path = image.with_name(stem_of(image) + ENDING)
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_json() + "\n")
        return path


def incomplete(recipe: Recipe, error: Exception) -> ConfigurationError:
    """The sentence for a recipe whose parameters do not fit its operation."""
    return ConfigurationError(
        f"The recipe is incomplete or of another version, {recipe.version} ({' '.join(str(error).split())}); "
        f"take it from the picture's metadata or its {ENDING} as they were written."
    )


def stem_of_recipe(path: Path) -> str:
    """`a` of `a.recipe.json`, and of an image `a.png`."""
    return path.name.removesuffix(ENDING) if path.name.endswith(ENDING) else stem_of(path)


def hash_of_pixels(pixels: np.ndarray) -> str:
    """SHA-256 of an array's shape, dtype and values: what `Recipe.result` holds."""
    digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def hash_of_set(hashes: Iterable[str]) -> str:
    """One hash for several files, whatever their order and names."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MOST_BYTES)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file; check the name.") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: cannot be read as a recipe; pass the {ENDING} as it was written."
        ) from error
