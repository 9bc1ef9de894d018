"""Variants and new radiographs: what a seed means, what the recipe says, how it stops."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dino_diffusion.errors import Cancelled, ConfigurationError
from dino_diffusion.generation import variants
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.variants import generate, replay
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SamplingStep
from tests.tiny import smooth_picture, tiny_bundle

STEPS = 3


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def radiograph() -> Radiograph:
    return Radiograph.from_array(smooth_picture(3, 90, 70))


def test_pictures_have_the_bundles_size_and_grey_range(bundle: ModelBundle) -> None:
    for item in generate(bundle, 2, steps=STEPS):
        assert item.pixels.shape == (64, 64)
        assert item.pixels.dtype == np.float32
        assert 0 <= item.pixels.min() < item.pixels.max() <= 1


def test_same_seed_same_picture(bundle: ModelBundle) -> None:
    first, again, other = (generate(bundle, steps=STEPS, seed=seed)[0].pixels for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("like", [False, True])
def test_picture_k_does_not_depend_on_how_many_are_made(
    bundle: ModelBundle, radiograph: Radiograph, like: bool
) -> None:
    source = radiograph if like else None
    few, many = (generate(bundle, count, source, seed=2, steps=STEPS) for count in (2, 4))
    last = generate(bundle, 1, source, seed=2, steps=STEPS, first=3)
    for a, b in zip([*few, *last], [*many[:2], many[3]], strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert a.recipe == b.recipe
    assert not np.allclose(many[0].pixels, many[1].pixels)


def test_variants_follow_the_radiograph(bundle: ModelBundle, radiograph: Radiograph) -> None:
    other = Radiograph.from_array(smooth_picture(8, 90, 70))
    a, b = (generate(bundle, like=source, steps=STEPS)[0] for source in (radiograph, other))
    assert not np.allclose(a.pixels, b.pixels)
    assert a.recipe.inputs == {"like": radiograph.source.sha256}


def test_guidance_changes_the_picture(bundle: ModelBundle) -> None:
    plain, strong = (generate(bundle, steps=STEPS, guidance=guidance)[0].pixels for guidance in (1.0, 6.0))
    assert not np.allclose(plain, strong)


@pytest.mark.parametrize("batch", [1, 2], ids=["a batch an image", "two images a batch"])
@pytest.mark.parametrize("like", [False, True])
def test_the_recipe_replays_to_the_bit(
    bundle: ModelBundle, radiograph: Radiograph, like: bool, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = variants.in_batches
    monkeypatch.setattr(variants, "in_batches", lambda count, work, most: whole(count, work, most=batch))
    inputs = {"like": radiograph} if like else {}
    made = generate(
        bundle, 3, inputs.get("like"), 9, STEPS, 1.5, "heun", guidance_interval=(0.0, 0.4), first=4
    )
    for item in made:
        recipe = Recipe.from_json(item.recipe.to_json())
        assert recipe == item.recipe
        again = replay(recipe, tiny_bundle(), inputs)
        assert again.recipe == item.recipe
        assert np.array_equal(again.pixels, item.pixels)


def test_a_recipe_replays_only_with_its_own_bundle_and_inputs(
    bundle: ModelBundle, radiograph: Radiograph
) -> None:
    recipe = generate(bundle, like=radiograph, steps=1)[0].recipe
    other = Radiograph.from_array(smooth_picture(8, 90, 70))
    with pytest.raises(ConfigurationError, match="load the recipe's bundle"):
        replay(recipe, tiny_bundle(seed=1), {"like": radiograph})
    for inputs in ({}, {"like": other}, {"like": radiograph, "mask": other}):
        with pytest.raises(ConfigurationError, match="pass the very files"):
            replay(recipe, bundle, inputs)


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "inpaint"},
        {"parameters": {}},
        {"parameters": {"index": 0, "batch": [0, 10**9], "guidance_interval": [0, 1]}},
        {"parameters": {"index": 5, "batch": [0, 1], "guidance_interval": [0, 1]}},
        {"parameters": {"index": 0, "batch": [0, 1], "guidance_interval": [0, 1], "unknown": 1}},
    ],
)
def test_a_recipe_that_says_too_little_is_refused(bundle: ModelBundle, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="recipe"):
        replay(replace(generate(bundle, steps=1)[0].recipe, **change), bundle)


def test_guidance_outside_its_interval_changes_nothing(bundle: ModelBundle) -> None:
    plain, nowhere = (
        generate(bundle, steps=STEPS, guidance=guidance, guidance_interval=(0.0, 0.01))[0].pixels
        for guidance in (1.0, 6.0)
    )
    assert np.array_equal(plain, nowhere)


def test_the_recipe_says_synthetic_and_names_no_file(bundle: ModelBundle, radiograph: Radiograph) -> None:
    document = json.loads(generate(bundle, like=radiograph, steps=1)[0].recipe.to_json())
    assert document["synthetic"].startswith("synthetic")
    assert radiograph.source.name not in json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"operation": 1, "other": 2}',
        "not json",
        '{"operation": "a", "bundle": "b", "parameters": 3}',
    ],
)
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no recipe"):
        Recipe.from_json(text)


def test_the_callback_sees_every_step_and_can_cancel(bundle: ModelBundle) -> None:
    seen: list[SamplingStep] = []
    generate(bundle, 2, steps=STEPS, callback=seen.append)
    assert [step.index for step in seen] == [1, 2, 3] * 2
    assert seen[0].estimate.shape == (1, *bundle.latent_shape)

    seen.clear()

    def stop_after_two(step: SamplingStep) -> bool:
        seen.append(step)
        return step.index < 2

    with pytest.raises(Cancelled):
        generate(bundle, steps=STEPS, callback=stop_after_two)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "settings", [{"count": 0}, {"steps": 0}, {"guidance": -1}, {"sampler": "none"}, {"first": -1}]
)
def test_impossible_settings_are_refused(bundle: ModelBundle, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        generate(bundle, **{"steps": 1} | settings)
