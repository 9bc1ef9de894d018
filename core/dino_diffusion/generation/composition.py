"""Several concepts at once, in one batched pass: how far to go toward each, from what the rest suggests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dino_diffusion.device import device_name, in_batches, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.conditioning import concept_condition
from dino_diffusion.generation.library import find_concept
from dino_diffusion.generation.nearest import check_nearest
from dino_diffusion.generation.recipe import Recipe, hash_of_pixels, incomplete
from dino_diffusion.generation.variants import (
    BATCH_ON_GPU,
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    GUIDANCE_INTERVAL,
    Synthetic,
)
from dino_diffusion.generation.weighted import Weighted, hash_of_concept, name_of_concept
from dino_diffusion.models import Condition, EncoderOutput, Frame, ModelBundle
from dino_diffusion.sampling import (
    SAMPLERS,
    SamplingStep,
    VelocityModel,
    composed,
    initial_noise,
    time_grid,
)

OPERATION = "generate-concept"


def concept_velocity(
    bundle: ModelBundle,
    concepts: Sequence[Weighted],
    frames: torch.Tensor,
    guidance: float,
    encoded: EncoderOutput | None = None,
    present: torch.Tensor | None = None,
    interval: tuple[float, float] = (0.0, 1.0),
) -> VelocityModel:
    """v = v_0 + guidance * sum_i w_i (v_i - v_0), where v_i sees concept i and v_0 no concept.

    All see the same patch tokens: those of `encoded` where `present` (see `concept_condition`), else none, so
    that v_0 is what the model would paint there anyway. Weights that sum up to 1 interpolate, others compose
    (Liu et al. 2022, arXiv 2206.01714). Outside of the closed `interval` of flow times guidance is 1.
    """
    if present is None:
        present = torch.ones(1, bundle.denoiser.tokens, dtype=torch.bool, device=frames.device)
    without_cls = present.clone()
    without_cls[:, 0] = False
    around = concept_condition(bundle, None, frames, encoded, without_cls)
    conditions = [concept_condition(bundle, concept, frames, encoded, present) for concept, _ in concepts]
    guided, plain = (
        composed(
            bundle.denoiser,
            conditions,
            [scale * weight for _, weight in concepts],
            around,
            concatenate=Condition.cat,
        )
        for scale in (guidance, 1.0)
    )
    low, high = interval

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        # All pictures of a batch are at the same noise level.
        return (guided if low <= float(t[0]) <= high else plain)(x, t)

    return velocity


@torch.no_grad()
def generate_concept(
    bundle: ModelBundle,
    concepts: Sequence[Weighted],
    count: int = 1,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    guidance: float = DEFAULT_GUIDANCE,
    sampler: str = DEFAULT_SAMPLER,
    callback: Callable[[SamplingStep], bool | None] | None = None,
    first: int = 0,
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL,
) -> list[Synthetic]:
    """`count` whole radiographs that show the concepts together, in the manner of `variants.generate`.

    Raises ConceptError for a concept of another model, ConfigurationError for impossible settings and
    Cancelled when the callback says so.
    """
    if count < 1 or first < 0 or sampler not in SAMPLERS or not 0 <= guidance <= 20 or not concepts:
        raise ConfigurationError(
            f"Cannot generate {count} images of {len(concepts)} concepts from number {first} on with sampler "
            f"'{sampler}' and guidance {guidance}: ask for at least one image, counted from 0, and one "
            f"concept, a sampler out of {', '.join(SAMPLERS)}, and a guidance from 0 to 20."
        )
    for concept, _ in concepts:
        concept.check(bundle)
    settings = {
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "guidance_interval": list(guidance_interval),
        "sampler": sampler,
        "concepts": [[concept.name, weight] for concept, weight in concepts],
    }
    inputs = {name_of_concept(concept.name): hash_of_concept(concept) for concept, _ in concepts}
    times, device = time_grid(steps, bundle.time_shift), device_name(bundle.device)

    def work(start: int, stop: int) -> list[Synthetic]:
        indices = range(first + start, first + stop)
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + index) for index in indices]
        noise = torch.cat([initial_noise((1, *bundle.latent_shape), g, bundle.device) for g in generators])
        frames = torch.tensor([Frame(size=bundle.size).numbers()] * len(indices), device=bundle.device)
        velocity = concept_velocity(bundle, concepts, frames, guidance, interval=guidance_interval)
        latents = SAMPLERS[sampler](velocity, noise, times, callback)
        pictures = bundle.autoencoder.decode(latents)[:, 0].float().cpu().numpy()
        batch = {"batch": [indices.start, indices.stop]}
        return [
            Synthetic(
                picture,
                Recipe(
                    OPERATION,
                    bundle.id,
                    settings | batch | {"index": index},
                    inputs,
                    device=device,
                    result=hash_of_pixels(picture),
                    checks=check_nearest(bundle, picture),
                ),
            )
            for index, picture in zip(indices, pictures, strict=True)
        ]

    with inference(bundle.device):
        batches = in_batches(count, work, most=1 if bundle.device.type == "cpu" else BATCH_ON_GPU)
    return [made for batch in batches for made in batch]


def again(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Any]) -> Synthetic:
    """The picture that a recipe of `generate_concept` describes, see `replay`.

    `inputs` by the names that the recipe gives them: concepts or their files. Raises ConfigurationError for
    others, and for an incomplete recipe.
    """
    known = opened_concepts(inputs)
    recipe.check_inputs({name: hash_of_concept(concept) for name, concept in known.items()})
    try:
        settings = dict(recipe.parameters)
        index, (start, stop) = settings.pop("index"), settings.pop("batch")
        settings["guidance_interval"] = tuple(settings["guidance_interval"])
        concepts = [
            (known[name_of_concept(name)], float(weight)) for name, weight in settings.pop("concepts")
        ]
        if not start <= index < stop <= start + BATCH_ON_GPU:
            raise ValueError(f"no image {index} in a batch from {start} to {stop}")
        return generate_concept(bundle, concepts, stop - start, first=start, **settings)[index - start]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise incomplete(recipe, error) from error


def opened_concepts(inputs: Mapping[str, Any]) -> dict[str, Concept]:
    """Concepts of a recipe's inputs; files and the names of shipped ones are read."""
    return {
        name: find_concept(value) if isinstance(value, (str, Path)) else value
        for name, value in inputs.items()
    }
