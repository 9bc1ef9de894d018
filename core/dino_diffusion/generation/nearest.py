"""How close does a synthetic picture come to a training image? And which real ones are its neighbours?

Distances are cosines between the tokens that condition the denoiser. What the check proves and what not:
docs/provenance.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from dino_diffusion.device import inference
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import EncoderOutput, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.view import ModelView

SUSPICIOUS = 99.0
"""Percentage of real radiographs above which a picture is called a possible copy: one in a hundred real
radiographs of patients who were never trained on would be called so too."""

CHECK = "nearest_training_image"


@dataclass(frozen=True)
class Nearest:
    """A picture and the training image nearest to it.

    distance: cosine distance of their tokens, 0 to 2. relative: the same over the mean distance to the next
    training images. closer_than: percentage of real radiographs that keep farther from every other patient's,
    relatively. image: the training image's number in the index.
    """

    distance: float
    relative: float
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
    distance, relative, image = bundle.training_index.nearest(index_embedding(bundle, pixels))
    closer_than = bundle.training_index.closer_than(float(relative[0]))
    return Nearest(
        round(float(distance[0]), 4), round(float(relative[0]), 4), round(closer_than, 2), int(image[0])
    )


def check_nearest(bundle: ModelBundle, pixels: np.ndarray) -> dict[str, Any]:
    """`nearest_training_image` as an entry of `Recipe.checks`; empty where the bundle carries no index."""
    found = nearest_training_image(bundle, pixels)
    return {} if found is None else {CHECK: asdict(found) | {"suspicious": found.suspicious}}


def warnings_of(recipe: Recipe) -> list[str]:
    """What the checks noted in a recipe warn of."""
    noted = recipe.checks.get(CHECK)
    if not noted or not noted["suspicious"]:
        return []
    return [Nearest(*(noted[name.name] for name in fields(Nearest))).describe()]


def neighbours(
    bundle: ModelBundle, radiograph: Radiograph, others: Iterable[Radiograph], count: int = 5
) -> list[dict[str, Any]]:
    """The `count` of `others` with the most similar CLS tokens, nearest first.

    Each with `name`, `sha256` and `similarity`, a cosine, ready for JSON. `others` are read one by one, so
    they may be many.
    """
    own = _encode(bundle, radiograph.pixels).cls
    found: list[dict[str, Any]] = []
    for other in others:
        similarity = float(torch.cosine_similarity(own, _encode(bundle, other.pixels).cls))
        source = other.source
        found.append({"name": source.name, "sha256": source.sha256, "similarity": round(similarity, 4)})
    return sorted(found, key=lambda entry: -entry["similarity"])[:count]


def index_embedding(bundle: ModelBundle, pixels: np.ndarray) -> np.ndarray:
    """What an index holds of a whole picture `(H, W)` in [0, 1], before it is coded: float32 `(1, D)`."""
    return bundle.prior.coordinates(_encode(bundle, pixels)).cpu().numpy()


def _encode(bundle: ModelBundle, pixels: np.ndarray) -> EncoderOutput:
    with inference(bundle.device):
        encoded = bundle.encoder(ModelView.of(pixels, bundle.size).pixels.to(bundle.device))
    return EncoderOutput(encoded.cls.float(), encoded.patches.float())
