"""A recipe replays to the bit, with its own bundle, version and inputs alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation import replay as table
from dino_diffusion.generation import sampled
from dino_diffusion.generation.embedding import ImageClass
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.replay import Operation, is_same, replay
from dino_diffusion.generation.variants import Synthetic, Variation, generate
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from tests.tiny import smooth_picture, tiny_bundle

STEPS = 2


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """16-bit files that are no squares, and a folder of a class."""
    folder = tmp_path_factory.mktemp("files")
    names = {"like": "a.png", "and": "b.png", "and-2": "c.png"} | {str(n): f"class/{n}.png" for n in range(5)}
    (folder / "class").mkdir()
    for seed, name in enumerate(names.values()):
        pixels = (smooth_picture(seed, 90, 70) * 65535).clip(0, 65535).astype(np.uint16)
        Image.fromarray(pixels).save(folder / name)
    return {name: folder / names[name] for name in ("like", "and", "and-2")} | {"class": folder / "class"}


def read(files: Mapping[str, Path], *names: str) -> list[Radiograph]:
    return [Radiograph.read(files[name]) for name in names]


def of_class(bundle: ModelBundle, files: Mapping[str, Path]) -> ImageClass:
    return ImageClass.of(bundle, map(Radiograph.read, sorted(files["class"].iterdir())))


VARIATIONS: dict[str, Callable[[ModelBundle, Mapping[str, Path]], Variation]] = {
    "": lambda bundle, files: Variation(),
    "like": lambda bundle, files: Variation(*read(files, "like"), strength=0.6, jitter=0.4),
    "like,and": lambda bundle, files: Variation(
        read(files, "like")[0], tuple(read(files, "and")), (0.3,), jitter=0.1
    ),
    "like,and,and-2": lambda bundle, files: Variation(
        read(files, "like")[0], tuple(read(files, "and", "and-2"))
    ),
    "class": lambda bundle, files: Variation(image_class=of_class(bundle, files), jitter=0.5),
    "like,class": lambda bundle, files: Variation(
        *read(files, "like"), strength=0.5, image_class=of_class(bundle, files)
    ),
}


@pytest.mark.parametrize("names", VARIATIONS)
def test_every_variation_replays_to_the_bit(bundle: ModelBundle, files: dict[str, Path], names: str) -> None:
    variation = VARIATIONS[names](bundle, files)
    item = generate(bundle, 2, variation, 9, STEPS, 1.5, "heun", guidance_interval=(0.0, 0.4), first=4)[1]
    recipe = Recipe.from_json(item.recipe.to_json())
    assert recipe == item.recipe
    again = replay(recipe, tiny_bundle(), {name: files[name] for name in names.split(",") if name})
    assert again.recipe == item.recipe
    assert np.array_equal(again.pixels, item.pixels)
    assert is_same(again, recipe)


def test_a_batch_of_several_is_computed_again_as_it_was(
    bundle: ModelBundle, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sampled.in_batches
    monkeypatch.setattr(sampled, "in_batches", lambda count, work, most: whole(count, work, most=2))
    (like,) = read(files, "like")
    for item in generate(bundle, 3, like, 9, STEPS, first=4):
        assert np.array_equal(replay(item.recipe, bundle, {"like": like}).pixels, item.pixels)


def test_only_with_its_own_bundle_version_and_inputs(bundle: ModelBundle, files: dict[str, Path]) -> None:
    like, other = read(files, "like", "and")
    recipe = generate(bundle, like=like, steps=1)[0].recipe
    with pytest.raises(ConfigurationError, match="load the recipe's bundle"):
        replay(recipe, tiny_bundle(seed=1), {"like": like})
    with pytest.raises(ConfigurationError, match=r"install dino-diffusion 0\.0\.9"):
        replay(replace(recipe, version="0.0.9"), bundle, {"like": like})
    with pytest.raises(ConfigurationError, match="'sharpen', which cannot be replayed"):
        replay(replace(recipe, operation="sharpen"), bundle, {"like": like})
    for inputs in ({}, {"like": other}, {"like": like, "mask": other}):
        with pytest.raises(ConfigurationError, match="pass the very files"):
            replay(recipe, bundle, inputs)


BATCH = {"index": 0, "batch": [0, 1], "guidance_interval": [0, 1], "mix": [], "strength": 1, "jitter": 0}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        BATCH | {"batch": [0, 10**9]},
        BATCH | {"index": 5},
        BATCH | {"unknown": 1},
        BATCH | {"strength": "much"},
        BATCH | {"seed": "abc"},
        BATCH | {"guidance_interval": 3},
        BATCH | {"mix": [0.5]},
        BATCH | {"mix": [float("nan")]},
        BATCH | {"steps": 10**9},
        BATCH | {"strength": float("nan")},
    ],
)
def test_a_recipe_that_says_too_little_is_refused(bundle: ModelBundle, parameters: dict[str, Any]) -> None:
    recipe = Recipe("generate", bundle.id, parameters)
    with pytest.raises(ConfigurationError):
        replay(recipe, bundle)


def test_other_pixels_are_noticed(bundle: ModelBundle) -> None:
    item = generate(bundle, steps=1)[0]
    assert is_same(item, replace(item.recipe, result="00")) is False
    assert is_same(item, replace(item.recipe, result="")) is None


def test_the_table_takes_another_operation(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a new operation has to bring: two functions in one row."""

    def again(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Any]) -> Synthetic:
        recipe.check_inputs({})
        return Synthetic(np.full((20, 20), recipe.parameters["grey"], np.float32), recipe)

    monkeypatch.setitem(table.OPERATIONS, "flat", Operation(again, lambda item, path: [path]))
    assert replay(Recipe("flat", bundle.id, {"grey": 0.5}), bundle).pixels.max() == 0.5
