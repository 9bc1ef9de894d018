"""Several concepts at once, in one batched pass: how far to go toward each, from what the rest suggests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dino_diffusion.device import device_name
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.conditioning import concept_condition, with_vectors
from dino_diffusion.generation.library import find_concept
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.sampled import (
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    GUIDANCE_INTERVAL,
    Callback,
    Synthetic,
    check_request,
    finished,
    sample_again,
    sample_pictures,
)
from dino_diffusion.generation.weighted import Weighted, hash_of_concept, name_of_concept
from dino_diffusion.models import Condition, EncoderOutput, Frame, ModelBundle
from dino_diffusion.sampling import VelocityModel, by_frequency, composed, steered, time_grid

OPERATION = "generate-concept"

WHOLE_GUIDANCE = 2.0
"""How far to go toward concepts where a whole picture is drawn from nothing else."""

IN_PLACE_GUIDANCE, WITHOUT_OPPOSITE = 20.0, 4.0
"""How far to go toward concepts in a radiograph, see `usual_guidance`."""

REACH = 0.2
"""How many differences of mean tokens the picture's own are moved by, for each unit of guidance."""


def usual_guidance(concepts: Iterable[Concept], told_apart: float = IN_PLACE_GUIDANCE) -> float:
    """For `concept_velocity` with surroundings, where the user says nothing.

    `told_apart` if all concepts have opposites, else less: against its opposite a concept is exaggerated
    without artefacts; against nothing so is what all films of its source have in common, which bleaches or
    darkens a picture.
    """
    return told_apart if all(c.opposite is not None for c in concepts) else WITHOUT_OPPOSITE


def concept_velocity(
    bundle: ModelBundle,
    concepts: Sequence[Weighted],
    frames: torch.Tensor,
    guidance: float,
    encoded: EncoderOutput | None = None,
    present: torch.Tensor | None = None,
    interval: tuple[float, float] = (0.0, 1.0),
    fine: float | None = None,
    vectors: bool = True,
) -> VelocityModel:
    """v = v_0 + guidance * sum_i w_i (v_i - v_i'), where v_i sees concept i alone, v_i' its opposite alone.

    v_0 sees the patch tokens of `encoded` where `present` (see `concept_condition`) and no concept: what the
    model would paint there anyway. Where all concepts know it, these tokens are first moved by guidance *
    REACH * sum_i w_i times how tokens of concept i's films differ from those of its opposite, and all of them
    are shown: patch tokens tell the model nearly everything, so a film's own, moved, are that film with the
    finding. The sum beside it exaggerates that; `vectors` False does without where tokens were moved.
    Concepts are composed (Liu et al. 2022, arXiv 2206.01714) and not shown beside the tokens: beside them a
    concept moved the grey of an edit by a quarter of what it moves it alone. The opposite takes out what a
    concept shares with all films of its source; it is nothing at all for a concept without one. Both are
    asked about a whole film, whatever part `frames` says is painted: a concept is what whole films share, and
    of a part alone it knows next to nothing. Without `encoded` v_0 and every opposite are nothing: a whole
    picture needs what all films share. `fine`: the guidance of details in the sum, None: the same. Weights of
    1 in all interpolate. Outside of the closed `interval` of flow times v_0 acts alone, without `encoded`
    guidance is 1.
    """
    nothing = bundle.denoiser.unconditional(whole_frames(bundle, len(frames)))
    parts = _parts(concepts, opposites=encoded is not None)
    conditions, weights = [with_vectors(nothing, part) for part, _ in parts], [weight for _, weight in parts]
    denoiser, join = bundle.denoiser, Condition.cat
    if encoded is None:
        guided, plain = (
            composed(denoiser, conditions, [scale * w for w in weights], nothing, concatenate=join)
            for scale in (guidance, 1.0)
        )
    else:
        moved = toward(bundle, encoded, concepts, REACH * guidance)
        if present is None or moved is not None:
            present = torch.ones(1, denoiser.tokens, dtype=torch.bool, device=frames.device)
        without_cls = present.clone()
        without_cls[:, 0] = False
        around = concept_condition(bundle, None, frames, moved or encoded, without_cls)
        plain = composed(denoiser, [around], [1.0], nothing, concatenate=join)
        if moved is not None and not vectors:
            return plain
        emphasis = by_frequency(guidance, guidance if fine is None else min(guidance, fine))
        guided = steered(denoiser, around, conditions, weights, nothing, emphasis, concatenate=join)
    low, high = interval

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        # All pictures of a batch are at the same noise level.
        return (guided if low <= float(t[0]) <= high else plain)(x, t)

    return velocity


def toward(
    bundle: ModelBundle, encoded: EncoderOutput, concepts: Sequence[Weighted], reach: float
) -> EncoderOutput | None:
    """A picture's tokens, moved by `reach` toward the concepts; None where one of these has no direction."""
    flat = bundle.prior.flat(encoded)
    for concept, weight in concepts:
        if concept.direction is None:
            return None
        flat = flat + reach * weight * concept.direction.to(flat)
    return bundle.prior.tokens(flat)


def whole_frames(bundle: ModelBundle, count: int) -> torch.Tensor:
    """`(count, 6)`: what the denoiser is told of a whole film."""
    return torch.tensor([Frame(size=bundle.size).numbers()] * count, device=bundle.device)


def _parts(concepts: Sequence[Weighted], opposites: bool) -> list[tuple[torch.Tensor, float]]:
    """Which vectors are shown with which weight; what concepts share, such as an opposite, is shown once."""
    terms = [(concept.vectors, weight) for concept, weight in concepts]
    if opposites:
        terms += [(c.opposite, -weight) for c, weight in concepts if c.opposite is not None]
    parts: list[tuple[torch.Tensor, float]] = []
    for vectors, weight in terms:
        known = [k for k, (other, _) in enumerate(parts) if torch.equal(other, vectors)]
        if known:
            weight += parts.pop(known[0])[1]
        parts.append((vectors, weight))
    return parts


@torch.no_grad()
def generate_concept(
    bundle: ModelBundle,
    concepts: Sequence[Weighted],
    count: int = 1,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    guidance: float = WHOLE_GUIDANCE,
    sampler: str = DEFAULT_SAMPLER,
    callback: Callback | None = None,
    first: int = 0,
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL,
) -> list[Synthetic]:
    """`count` whole radiographs that show the concepts together, in the manner of `variants.generate`.

    Raises ConceptError for a concept of another model, ConfigurationError for impossible settings and
    Cancelled when the callback says so.
    """
    check_request(count, first, steps, sampler, guidance)
    if not concepts:
        raise ConfigurationError("There is no concept to generate; name one or more.")
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
    recipe = Recipe(OPERATION, bundle.id, settings, inputs, device=device_name(bundle.device))

    def velocity_of(generators: list[torch.Generator]) -> VelocityModel:
        frames = whole_frames(bundle, len(generators))
        return concept_velocity(bundle, concepts, frames, guidance, interval=guidance_interval)

    return sample_pictures(
        bundle,
        recipe,
        count,
        first,
        time_grid(steps, bundle.time_shift),
        velocity_of,
        lambda square, recipe: finished(bundle, square, recipe),
        callback,
    )


def again(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Any]) -> Synthetic:
    """The picture that a recipe of `generate_concept` describes, see `replay`.

    `inputs` by the names that the recipe gives them: concepts or their files. Raises ConfigurationError for
    others, and for an incomplete recipe.
    """
    known = opened_concepts(inputs)
    recipe.check_inputs({name: hash_of_concept(concept) for name, concept in known.items()})

    def make(settings: dict[str, Any], count: int, first: int) -> list[Synthetic]:
        concepts = [
            (known[name_of_concept(name)], float(weight)) for name, weight in settings.pop("concepts")
        ]
        return generate_concept(bundle, concepts, count, first=first, **settings)

    return sample_again(recipe, make)


def opened_concepts(inputs: Mapping[str, Any]) -> dict[str, Concept]:
    """Concepts of a recipe's inputs; files and the names of shipped ones are read."""
    return {
        name: find_concept(value) if isinstance(value, (str, Path)) else value
        for name, value in inputs.items()
    }
