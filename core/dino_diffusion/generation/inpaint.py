"""Inpainting in place: only the masked part of a radiograph is painted anew, the rest keeps every bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.generation.composition import opened_concepts
from dino_diffusion.generation.masks import EditMask
from dino_diffusion.generation.painting import (
    Inpainted,
    Inpainting,
    InpaintSettings,
)
from dino_diffusion.generation.recipe import Recipe, incomplete
from dino_diffusion.generation.sampled import BATCH_ON_GPU
from dino_diffusion.generation.weighted import Weighted, hash_of_concept, name_of_concept
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SamplingStep


def inpaint(
    bundle: ModelBundle,
    radiograph: Radiograph,
    mask: np.ndarray,
    keep: np.ndarray | None = None,
    concepts: Sequence[Weighted] = (),
    candidates: int = 1,
    settings: InpaintSettings | None = None,
    callback: Callable[[SamplingStep], bool | None] | None = None,
) -> list[Inpainted]:
    """Paints the masked part of a radiograph anew, `candidates` times; everything else keeps its very bits.

    `mask` and `keep` as in `EditMask.of`; a mask of the whole picture is image to image. `concepts` are
    composed with their weights; without any, the surroundings decide. The callback sees the steps of one
    batch after the other. Raises RadiographError for masks that do not fit, ConceptError for a concept of
    another model, ConfigurationError for impossible settings and Cancelled when the callback says so.
    """
    shared = Inpainting.of(bundle, radiograph, EditMask.of(radiograph, mask, keep), concepts, settings)
    return shared.candidates(candidates, callback)


def again(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Any]) -> Inpainted:
    """The picture that a recipe of `inpaint` describes, see `replay`.

    `inputs` by the names that the recipe gives them: `image` a radiograph or its file, `mask` an EditMask or
    the file of the mask that was written beside the result, each concept or its file. Raises
    ConfigurationError for others, and for an incomplete recipe.
    """
    given = {name: value for name, value in inputs.items() if name in ("image", "mask")}
    if isinstance(given.get("image"), (str, Path)):
        given["image"] = Radiograph.read(given["image"])
    if isinstance(given.get("mask"), (str, Path)) and "image" in given:
        given["mask"] = EditMask.of(given["image"], read_labels(given["mask"], given["image"]))
    known = opened_concepts({name: value for name, value in inputs.items() if name not in given})
    hashes = {"image": given["image"].source.sha256} if "image" in given else {}
    hashes |= {"mask": given["mask"].sha256} if "mask" in given else {}
    recipe.check_inputs(hashes | {name: hash_of_concept(concept) for name, concept in known.items()})
    try:
        settings = dict(recipe.parameters)
        index, (start, stop) = settings.pop("index"), settings.pop("batch")
        concepts = [
            (known[name_of_concept(name)], float(weight)) for name, weight in settings.pop("concepts")
        ]
        if not start <= index < stop <= start + BATCH_ON_GPU:
            raise ValueError(f"no image {index} in a batch from {start} to {stop}")
        settings["guidance_interval"] = tuple(settings["guidance_interval"])
        chosen = InpaintSettings(**settings)
        shared = Inpainting.of(bundle, given["image"], given["mask"], concepts, chosen)
        return shared.paint(start, stop)[index - start]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise incomplete(recipe, error) from error
