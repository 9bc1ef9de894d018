"""Whole pictures of a seed: the loop and the recipe that every way of generating them shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dino_diffusion.device import drawing, in_batches, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.nearest import check_nearest
from dino_diffusion.generation.recipe import Recipe, hash_of_pixels, incomplete
from dino_diffusion.models import ModelBundle
from dino_diffusion.sampling import SAMPLERS, SamplingStep, VelocityModel, initial_noise, noised

DEFAULT_STEPS, DEFAULT_GUIDANCE, DEFAULT_SAMPLER = 12, 1.0, "dpmpp_2m"
"""From noise to picture: more steps and guidance cost more and come no nearer to real radiographs
(docs/training.md)."""

GUIDANCE_INTERVAL = (0.1, 0.9)
"""Guidance at the ends of the path costs diversity (noise) and detail (clean) and gains nothing."""

MOST_STEPS = 1000

BATCH_ON_GPU = 8
"""A CPU would gain up to a fifth from it too, and lose that a picture is the same to the bit in any call."""

Callback = Callable[[SamplingStep], bool | None]


@dataclass(frozen=True)
class Synthetic:
    """A synthetic radiograph, float32 `(H, W)` in [0, 1] in the model's grey, and its recipe.

    Its longer side has the bundle's size; its aspect is that of the radiograph it is a variant of, else it is
    a square. `spacing_mm` follows from the same radiograph, None where that has none.
    """

    pixels: np.ndarray
    recipe: Recipe
    spacing_mm: tuple[float, float] | None = None


def check_request(count: int, first: int, steps: int, sampler: str, guidance: float) -> None:
    """Raises ConfigurationError for impossible settings."""
    possible = count >= 1 and first >= 0 and 1 <= steps <= MOST_STEPS and 0 <= guidance <= 20
    if not possible or sampler not in SAMPLERS:
        raise ConfigurationError(
            f"Cannot generate {count} images from number {first} on in {steps} steps with sampler "
            f"'{sampler}' and guidance {guidance}: ask for at least one image, counted from 0, 1 to "
            f"{MOST_STEPS} steps, a sampler out of {', '.join(SAMPLERS)}, and a guidance from 0 to 20."
        )


def generator_of(seed: int, index: int) -> torch.Generator:
    """Of picture `index` of a seed: first its tokens are drawn from it, if any are, then its noise."""
    return torch.Generator().manual_seed(seed * 1_000_003 + index)


def sample_pictures(
    bundle: ModelBundle,
    recipe: Recipe,
    count: int,
    first: int,
    times: torch.Tensor,
    velocity_of: Callable[[list[torch.Generator]], VelocityModel],
    finish: Callable[[np.ndarray, Recipe], Synthetic],
    callback: Callback | None = None,
    start: torch.Tensor | None = None,
) -> list[Synthetic]:
    """Pictures `first` to `first + count - 1` of the recipe's `seed`, by its `sampler`.

    `velocity_of` gives the network of a batch, and may draw from each picture's own generator before its
    noise is drawn. `start` (1, C, h, w): the latent that is noised to `times[0]`, None: pure noise. `finish`
    makes the result of a square picture `(S, S)` and its recipe, which then says index and batch.
    """
    settings = recipe.parameters

    def work(begin: int, end: int) -> list[Synthetic]:
        indices = range(first + begin, first + end)
        generators = [generator_of(settings["seed"], k) for k in indices]
        velocity = velocity_of(generators)
        noise = torch.cat([initial_noise((1, *bundle.latent_shape), g, bundle.device) for g in generators])
        noise = noise if start is None else noised(start, noise, float(times[0]))
        with drawing(bundle.device):
            latents = SAMPLERS[settings["sampler"]](velocity, noise, times, callback)
            squares = bundle.autoencoder.decode(latents)[:, 0].float().cpu().numpy()
        # A batch of another size rounds otherwise: to replay a picture means to compute its batch again.
        batch = {"batch": [indices.start, indices.stop]}
        return [
            finish(square, replace(recipe, parameters=settings | batch | {"index": k}))
            for k, square in zip(indices, squares, strict=True)
        ]

    with inference(bundle.device):
        batches = in_batches(count, work, most=1 if bundle.device.type == "cpu" else BATCH_ON_GPU)
    return [made for batch in batches for made in batch]


def finished(
    bundle: ModelBundle, pixels: np.ndarray, recipe: Recipe, spacing_mm: tuple[float, float] | None = None
) -> Synthetic:
    """The result, whose recipe says which pixels it gave and how close they come to a training image."""
    noted = replace(recipe, result=hash_of_pixels(pixels), checks=check_nearest(bundle, pixels))
    return Synthetic(pixels, noted, spacing_mm)


def sample_again(recipe: Recipe, make: Callable[[dict[str, Any], int, int], list[Synthetic]]) -> Synthetic:
    """The picture of a recipe: `make(settings, count, first)` computes its batch.

    `settings` are the recipe's parameters but index and batch. Raises ConfigurationError where they do not
    fit.
    """
    try:
        settings = dict(recipe.parameters)
        index, (start, stop) = settings.pop("index"), settings.pop("batch")
        settings["guidance_interval"] = tuple(settings["guidance_interval"])
        if not start <= index < stop <= start + BATCH_ON_GPU:
            raise ValueError(f"no image {index} in a batch from {start} to {stop}")
        return make(settings, stop - start, start)[index - start]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise incomplete(recipe, error) from error
