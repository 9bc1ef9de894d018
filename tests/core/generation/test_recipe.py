"""Recipes: read back from every place they are written to, and refused where they are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.errors import ConfigurationError, RadiographError
from dino_diffusion.generation.recipe import Recipe, hash_of_pixels, hash_of_set, stem_of_recipe
from dino_diffusion.generation.save import ENDINGS, save_synthetic
from dino_diffusion.generation.variants import Synthetic
from dino_diffusion.radiograph import Radiograph
from tests.tiny import smooth_picture

RECIPE = Recipe(
    "generate", "0123456789abcdef", {"seed": 3, "mix": [0.5]}, {"like": "ab" * 32}, result="cd" * 32
)
ITEM = Synthetic(smooth_picture(2, 60, 48), RECIPE, spacing_mm=(0.7, 0.8))


def test_json_there_and_back() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    assert json.loads(RECIPE.to_json())["synthetic"].startswith("synthetic")


@pytest.mark.parametrize("ending", sorted(ENDINGS.values()))
def test_a_file_carries_its_recipe_inside_and_beside(tmp_path: Path, ending: str) -> None:
    image, beside = save_synthetic(ITEM, tmp_path / f"a{ending}")
    assert (image.name, beside.name) == (f"a{ending}", "a.recipe.json")
    assert Recipe.read(image) == Recipe.read(beside) == RECIPE
    back = Radiograph.read(image)
    assert np.abs(back.pixels - ITEM.pixels).max() < 1 / 200
    if ending in (".nii.gz", ".nrrd", ".mha", ".dcm"):
        assert back.spacing_mm == pytest.approx((0.7, 0.8))


def test_a_name_without_an_ending_becomes_a_png_whatever_its_dots(tmp_path: Path) -> None:
    image, beside = save_synthetic(ITEM, tmp_path / "1.2.840")
    assert (image.name, beside.name) == ("1.2.840.png", "1.2.840.recipe.json")


def test_the_stem_of_either_file_is_the_same(tmp_path: Path) -> None:
    assert {stem_of_recipe(path) for path in save_synthetic(ITEM, tmp_path / "a.b.nii.gz")} == {"a.b"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "3",
        '{"operation": 1, "other": 2}',
        "not json",
        '{"operation": "a", "bundle": "b", "parameters": 3}',
        '{"operation": "a", "bundle": "b", "parameters": {}, "checks": []}',
        '{"operation": "a", "bundle": "b", "parameters": {}, "inputs": {"a": 1}}',
    ],
)
def test_what_is_no_recipe_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no recipe"):
        Recipe.from_json(text)
    (tmp_path / "a.recipe.json").write_text(text)
    with pytest.raises(ConfigurationError, match="no recipe"):
        Recipe.read(tmp_path / "a.recipe.json")


def test_files_without_a_recipe_are_refused(tmp_path: Path) -> None:
    Image.fromarray((ITEM.pixels * 255).astype(np.uint8)).save(tmp_path / "plain.png")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="carries no recipe"):
        Recipe.read(tmp_path / "plain.png")
    with pytest.raises(ConfigurationError, match="cannot be read as a recipe"):
        Recipe.read(tmp_path / "binary.json")
    with pytest.raises(ConfigurationError, match="no such file"):
        Recipe.read(tmp_path / "missing.json")
    with pytest.raises(RadiographError, match="no such file"):
        Recipe.read(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("found", "word"),
    [({}, "is missing"), ({"like": "00"}, "content differs"), ({"like": "ab" * 32, "x": ""}, "none of")],
)
def test_inputs_are_compared_by_content(found: dict[str, str], word: str) -> None:
    RECIPE.check_inputs({"like": "ab" * 32})
    with pytest.raises(ConfigurationError, match=word):
        RECIPE.check_inputs(found)


def test_hashes() -> None:
    pixels = np.arange(6, dtype=np.float32)
    assert hash_of_pixels(pixels.reshape(2, 3)) != hash_of_pixels(pixels.reshape(3, 2))
    assert hash_of_pixels(pixels) == hash_of_pixels(np.arange(12, dtype=np.float32)[:6])
    assert hash_of_set(["b", "a"]) == hash_of_set(["a", "b"]) != hash_of_set(["a"])
