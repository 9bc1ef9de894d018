"""Variants and new radiographs: what a seed means, what the recipe says, how it stops."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dino_diffusion.errors import Cancelled, ConfigurationError
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.variants import generate
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
    for a, b in zip(few, many, strict=False):
        # Another batch size may sum in another order: equal to far below one grey level of 8 bits.
        assert np.abs(a.pixels - b.pixels).max() < 1e-3
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


def test_the_recipe_replays(bundle: ModelBundle) -> None:
    made = generate(bundle, 2, seed=9, steps=STEPS, guidance=1.5)[1]
    recipe = Recipe.from_json(made.recipe.to_json())
    assert recipe == made.recipe
    assert recipe.bundle == bundle.id
    settings = dict(recipe.parameters)
    index = settings.pop("index")
    assert np.allclose(generate(bundle, index + 1, **settings)[index].pixels, made.pixels, atol=1e-6)


def test_the_recipe_says_synthetic_and_names_no_file(bundle: ModelBundle, radiograph: Radiograph) -> None:
    document = json.loads(generate(bundle, like=radiograph, steps=1)[0].recipe.to_json())
    assert document["synthetic"].startswith("synthetic")
    assert radiograph.source.name not in json.dumps(document)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"operation": 1, "other": 2}', "not json"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no recipe"):
        Recipe.from_json(text)


def test_the_callback_sees_every_step_and_can_cancel(bundle: ModelBundle) -> None:
    seen: list[SamplingStep] = []
    generate(bundle, 2, steps=STEPS, callback=seen.append)
    assert [step.index for step in seen] == [1, 2, 3]
    assert seen[0].estimate.shape == (2, *bundle.latent_shape)

    seen.clear()

    def stop_after_two(step: SamplingStep) -> bool:
        seen.append(step)
        return step.index < 2

    with pytest.raises(Cancelled):
        generate(bundle, steps=STEPS, callback=stop_after_two)
    assert len(seen) == 2


@pytest.mark.parametrize("settings", [{"count": 0}, {"steps": 0}, {"guidance": -1}, {"sampler": "none"}])
def test_impossible_settings_are_refused(bundle: ModelBundle, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        generate(bundle, **{"steps": 1} | settings)
