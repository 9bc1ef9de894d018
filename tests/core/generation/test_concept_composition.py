"""Concepts in the velocity and in whole pictures: weights, batches, recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dino_diffusion.errors import Cancelled, ConceptError, ConfigurationError
from dino_diffusion.generation.composition import (
    REACH,
    again,
    concept_velocity,
    generate_concept,
    usual_guidance,
)
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.generation.conditioning import concept_condition
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.weighted import name_of_concept
from dino_diffusion.models import EncoderOutput, Frame, ModelBundle
from dino_diffusion.sampling import low_frequencies
from tests.tiny import SIZE, smooth_picture, tiny_bundle

STEPS = 3


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def concepts(bundle: ModelBundle) -> tuple[Concept, Concept]:
    """Of different length."""
    generator = torch.Generator().manual_seed(0)
    made = [
        Concept(name, torch.randn(count, 32, generator=generator), model_id(bundle))
        for name, count in (("normal", 2), ("effusion", 5))
    ]
    return made[0], made[1]


def frames(count: int = 2) -> torch.Tensor:
    return torch.tensor([Frame(size=SIZE).numbers()] * count)


def noisy(bundle: ModelBundle, count: int = 2) -> torch.Tensor:
    return torch.randn(count, *bundle.latent_shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("with_image", [False, True])
def test_the_velocity_is_the_composition(
    bundle: ModelBundle, concepts: tuple[Concept, Concept], with_image: bool
) -> None:
    """Liu et al. 2022, eq. 11, each velocity computed alone; what is around has patches but no CLS.

    Concepts speak of whole films, also where a part of one is painted.
    """
    encoded, present, around = None, None, frames()
    if with_image:
        around = torch.tensor([Frame(0.2, 0.3, 0.6, 0.7, size=SIZE).numbers()] * 2)
        with torch.no_grad():
            encoded = bundle.encoder(torch.from_numpy(smooth_picture(1))[None, None])
        encoded = EncoderOutput(encoded.cls, encoded.patches)
        present = torch.ones(1, 17, dtype=torch.bool)
        present[:, 4:8] = False
    x, t = noisy(bundle), torch.full((2,), 0.5)
    without_cls = torch.zeros(1, 17, dtype=torch.bool) if present is None else present.clone()
    without_cls[:, 0] = False
    with torch.no_grad():
        base = bundle.denoiser(x, t, concept_condition(bundle, None, around, encoded, without_cls))
        nothing = bundle.denoiser(x, t, bundle.denoiser.unconditional(frames()))
        single = [bundle.denoiser(x, t, concept_condition(bundle, concept, frames())) for concept in concepts]
        expected = base + 3.0 * (0.3 * (single[0] - nothing) - 0.6 * (single[1] - nothing))
        weighted = [(concepts[0], 0.3), (concepts[1], -0.6)]
        found = concept_velocity(bundle, weighted, around, 3.0, encoded, present)(x, t)
    assert torch.allclose(found, expected, atol=1e-3)


def test_tokens_of_the_picture_are_moved_toward_a_concept_that_knows_the_way(
    bundle: ModelBundle, concepts: tuple[Concept, Concept]
) -> None:
    """All of them are shown then, also those that were hidden; vectors guide beside them, or not."""
    generator, width = torch.Generator().manual_seed(4), len(bundle.prior.mean)
    known = [replace(c, typical=torch.randn(width, generator=generator)) for c in concepts]
    normal, effusion = known[0].opposed_to([known[1]]), known[1].opposed_to([known[0]])
    with torch.no_grad():
        encoded = bundle.encoder(torch.from_numpy(smooth_picture(1))[None, None])
        x, t = noisy(bundle), torch.full((2,), 0.5)
        hidden, shown = torch.ones(1, 17, dtype=torch.bool), torch.ones(1, 17, dtype=torch.bool)
        hidden[:, 4:8], shown[:, 0] = False, False
        weighted = [(normal, 0.25), (effusion, 0.75)]
        found = concept_velocity(bundle, weighted, frames(), 10.0, encoded, hidden, vectors=False)(x, t)
        both = concept_velocity(bundle, weighted, frames(), 10.0, encoded, hidden)(x, t)
        far = 10.0 * REACH * 0.5 * (known[1].typical - known[0].typical)
        moved = bundle.prior.tokens(bundle.prior.flat(encoded) + far)
        expected = bundle.denoiser(x, t, concept_condition(bundle, None, frames(), moved, shown))
        v_normal, v_effusion = (
            bundle.denoiser(x, t, concept_condition(bundle, concept, frames())) for concept in concepts
        )
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(both, expected + 10.0 * 0.5 * (v_effusion - v_normal), atol=1e-3)


def test_a_concept_is_weighed_against_its_opposite_in_a_picture(
    bundle: ModelBundle, concepts: tuple[Concept, Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each velocity computed alone; what two concepts share is computed once, nothing not at all."""
    normal, effusion = concepts
    third = replace(effusion, name="mass", vectors=effusion.vectors + 1)
    with torch.no_grad():
        encoded = bundle.encoder(torch.from_numpy(smooth_picture(1))[None, None])
    x, t = noisy(bundle), torch.full((2,), 0.5)
    without_cls = torch.ones(1, 17, dtype=torch.bool)
    without_cls[:, 0] = False
    weighted = [(effusion.opposed_to([normal]), 0.5), (third.opposed_to([normal]), 0.25)]
    batches = []
    honest = bundle.denoiser.unet.forward

    def counted(latents: torch.Tensor, *given: object, **more: object) -> object:
        batches.append(len(latents))
        return honest(latents, *given, **more)

    with torch.no_grad():
        base = bundle.denoiser(x, t, concept_condition(bundle, None, frames(), encoded, without_cls))
        v_normal, v_effusion, v_third = (
            bundle.denoiser(x, t, concept_condition(bundle, concept, frames()))
            for concept in (normal, effusion, third)
        )
        velocity = concept_velocity(bundle, weighted, frames(), 3.0, encoded, interval=(0.5, 1.0))
        later = bundle.denoiser(x, 0.8 * t, concept_condition(bundle, None, frames(), encoded, without_cls))
        monkeypatch.setattr(bundle.denoiser.unet, "forward", counted)
        found, found_later = velocity(x, t), velocity(x, 0.8 * t)
        found_much = concept_velocity(bundle, weighted, frames(), 10.0, encoded, fine=2.0)(x, t)
    change = 1.5 * (v_effusion - v_normal) + 0.75 * (v_third - v_normal)
    assert torch.allclose(found, base + change, atol=1e-3)
    coarse = low_frequencies(change)
    much = base + 10 / 3 * coarse + 2 / 3 * (change - coarse)
    assert torch.allclose(found_much, much, atol=1e-3)
    assert torch.allclose(found_later, later, atol=1e-4)
    assert batches[:3] == [2 * 4, 2, 2 * 4]


def test_a_whole_picture_needs_what_all_films_share(
    bundle: ModelBundle, concepts: tuple[Concept, Concept]
) -> None:
    opposed = concepts[1].opposed_to([concepts[0]])
    x, t = noisy(bundle), torch.full((2,), 0.5)
    with torch.no_grad():
        plain, told_apart = (
            concept_velocity(bundle, [(concept, 1.0)], frames(), 2.0)(x, t)
            for concept in (concepts[1], opposed)
        )
    assert torch.equal(plain, told_apart)


def test_more_guidance_is_usual_where_concepts_have_opposites(concepts: tuple[Concept, Concept]) -> None:
    opposed = concepts[1].opposed_to([concepts[0]])
    assert usual_guidance([opposed]) > usual_guidance(concepts) == usual_guidance([opposed, concepts[0]])


def test_guidance_acts_inside_its_interval_alone(
    bundle: ModelBundle, concepts: tuple[Concept, Concept]
) -> None:
    weighted = [(concepts[0], 1.0)]
    x = noisy(bundle)
    with torch.no_grad():
        strong, plain = (
            concept_velocity(bundle, weighted, frames(), scale, interval=(0.4, 0.6)) for scale in (5.0, 1.0)
        )
        for time, same in ((0.5, False), (0.4, False), (0.39, True), (0.9, True)):
            t = torch.full((2,), time, dtype=torch.float64)
            assert torch.allclose(strong(x, t), plain(x, t), atol=1e-5) is same


def test_pictures_of_concepts(bundle: ModelBundle, concepts: tuple[Concept, Concept]) -> None:
    one = generate_concept(bundle, [(concepts[0], 1.0)], 2, steps=STEPS)
    other = generate_concept(bundle, [(concepts[1], 1.0)], 2, steps=STEPS)
    assert one[0].pixels.shape == (SIZE, SIZE)
    assert not np.allclose(one[0].pixels, one[1].pixels)
    assert not np.allclose(one[0].pixels, other[0].pixels)
    last = generate_concept(bundle, [(concepts[0], 1.0)], 1, steps=STEPS, first=1)[0]
    assert np.array_equal(last.pixels, one[1].pixels)


def test_the_recipe_replays_to_the_bit(
    bundle: ModelBundle, concepts: tuple[Concept, Concept], tmp_path: Path
) -> None:
    weighted = [(concepts[0], 0.7), (concepts[1], 0.5)]
    item = generate_concept(bundle, weighted, 2, seed=4, steps=STEPS, sampler="heun")[1]
    recipe = Recipe.from_json(item.recipe.to_json())
    inputs = {name_of_concept(concept.name): concept for concept in concepts}
    assert np.array_equal(again(recipe, tiny_bundle(), inputs).pixels, item.pixels)
    files = {name: str(concept.save(tmp_path / f"{name}.safetensors")) for name, concept in inputs.items()}
    assert np.array_equal(again(recipe, bundle, files).pixels, item.pixels)
    with pytest.raises(ConfigurationError, match="missing"):
        again(recipe, bundle, {name_of_concept("normal"): concepts[0]})
    changed = replace(concepts[0], vectors=concepts[0].vectors + 1)
    with pytest.raises(ConfigurationError, match="content differs"):
        again(recipe, bundle, inputs | {name_of_concept("normal"): changed})
    with pytest.raises(ConfigurationError, match="incomplete"):
        again(replace(recipe, parameters={}), bundle, inputs)


def test_concepts_of_another_model_are_refused(
    bundle: ModelBundle, concepts: tuple[Concept, Concept]
) -> None:
    with pytest.raises(ConceptError, match="learn it again"):
        generate_concept(tiny_bundle(seed=1), [(concepts[0], 1.0)], steps=1)


def test_the_callback_can_cancel(bundle: ModelBundle, concepts: tuple[Concept, Concept]) -> None:
    with pytest.raises(Cancelled):
        generate_concept(bundle, [(concepts[0], 1.0)], steps=STEPS, callback=lambda step: step.index < 2)


@pytest.mark.parametrize(
    "settings", [{"count": 0}, {"guidance": -1}, {"sampler": "none"}, {"first": -1}, {"concepts": []}]
)
def test_impossible_settings_are_refused(
    bundle: ModelBundle, concepts: tuple[Concept, Concept], settings: dict
) -> None:
    with pytest.raises(ConfigurationError):
        generate_concept(bundle, **({"concepts": [(concepts[0], 1.0)], "steps": 1} | settings))
