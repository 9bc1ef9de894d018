"""How close does a synthetic picture come to a training image? And which real ones are its neighbours?

Cosine distances between the CLS tokens of a bundle's encoder. What the check proves and what not:
docs/provenance.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dino_diffusion.device import inference
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.view import ModelView

SUSPICIOUS = 99.0
"""Percentage of real radiographs above which a picture is called a possible copy: one in a hundred real
radiographs of patients who were never trained on would be called so too."""

CHECK = "nearest_training_image"


@dataclass(frozen=True)
class Nearest:
    """A picture and the training image nearest to it.

    distance: cosine distance of their CLS tokens, 0 to 2. closer_than: percentage of real radiographs that
    keep farther from every other patient's than this. image: the training image's number in the index.
    """

    distance: float
    closer_than: float
    image: int

    @property
    def suspicious(self) -> bool:
        """Whether the picture may be a copy."""
        return self.closer_than >= SUSPICIOUS

    def describe(self) -> str:
        """One sentence."""
        said = (
            f"closer to a training image than {self.closer_than:.1f} % of real radiographs are to another "
            "patient's"
        )
        return f"{said}: it may be a copy, compare it before it is used" if self.suspicious else said


def nearest_training_image(bundle: ModelBundle, pixels: np.ndarray) -> Nearest | None:
    """Of a picture `(H, W)` in [0, 1], whole as a file holds it; None where the bundle carries no index."""
    if bundle.training_index is None:
        return None
    distance, image = bundle.training_index.nearest(cls_tokens(bundle, [pixels]))
    closer_than = bundle.training_index.closer_than(float(distance[0]))
    return Nearest(round(float(distance[0]), 4), round(closer_than, 2), int(image[0]))


def check_nearest(bundle: ModelBundle, pixels: np.ndarray) -> dict[str, Any]:
    """`nearest_training_image` as an entry of `Recipe.checks`; empty where the bundle carries no index."""
    found = nearest_training_image(bundle, pixels)
    return {} if found is None else {CHECK: asdict(found) | {"suspicious": found.suspicious}}


def warnings_of(recipe: Recipe) -> list[str]:
    """What the checks noted in a recipe warn of."""
    noted = recipe.checks.get(CHECK)
    if not noted or not noted["suspicious"]:
        return []
    return [Nearest(noted["distance"], noted["closer_than"], noted["image"]).describe()]


def neighbours(
    bundle: ModelBundle, radiograph: Radiograph, others: Iterable[Radiograph], count: int = 5
) -> list[dict[str, Any]]:
    """The `count` most similar of `others`, nearest first: `name`, `sha256` and `similarity`, a cosine.

    Ready for JSON. Reads `others` one by one, so they may be many.
    """
    own = cls_tokens(bundle, [radiograph.pixels])[0]
    found: list[dict[str, Any]] = []
    for other in others:
        token = cls_tokens(bundle, [other.pixels])[0]
        similarity = float(own @ token / (np.linalg.norm(own) * np.linalg.norm(token)))
        source = other.source
        found.append({"name": source.name, "sha256": source.sha256, "similarity": round(similarity, 4)})
    return sorted(found, key=lambda entry: -entry["similarity"])[:count]


def cls_tokens(bundle: ModelBundle, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """float32 `(B, width)` of pictures `(H, W)` in [0, 1], each seen whole."""
    with inference(bundle.device):
        return np.stack(
            [
                bundle.encoder(ModelView.of(pixels, bundle.size).pixels.to(bundle.device))
                .cls[0]
                .float()
                .cpu()
                .numpy()
                for pixels in pictures
            ]
        )
