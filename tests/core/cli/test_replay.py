"""`dino-diffusion replay`: the same pixels again, from either file, or one sentence why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.radiograph import Radiograph
from tests.core.cli.conftest import save_picture
from tests.tiny import smooth_picture

Command = Callable
FAST = ("--steps", 2)


@pytest.fixture
def blend(command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path) -> Path:
    """Folder with the third blend of a 16-bit original with another; both are no squares."""
    deep = radiographs / "deep.png"
    Image.fromarray((smooth_picture(5, 90, 60) * 65535).clip(0, 65535).astype(np.uint16)).save(deep)
    done = command(
        "generate", "--like", deep, "--and", radiographs / "a.png", "--jitter", 0.2, "--strength", 0.8,
        "-n", 3, "-o", tmp_path / "made", "--bundle", bundle_folder, *FAST,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return tmp_path / "made"


@pytest.mark.parametrize("file", ["deep_s0_2.png", "deep_s0_2.recipe.json"])
def test_the_same_pixels_again(
    command: Command, blend: Path, radiographs: Path, bundle_folder: Path, tmp_path: Path, file: str
) -> None:
    inputs = ("--input", f"like={radiographs / 'deep.png'}", "--input", f"and={radiographs / 'a.png'}")
    done = command("replay", blend / file, *inputs, "-o", tmp_path / "again", "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    assert "the very pixels of the recipe" in done.stdout
    made, again = blend / "deep_s0_2.png", tmp_path / "again" / "deep_s0_2_replay.png"
    assert np.array_equal(Radiograph.read(again).stored, Radiograph.read(made).stored)
    assert Recipe.read(again) == Recipe.read(made)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "deep_s0_2_replay.png",
        "deep_s0_2_replay.recipe.json",
    ]


def test_the_format_follows_the_image_and_json_tells_all(
    command: Command, bundle_folder: Path, tmp_path: Path
) -> None:
    command("generate", "-o", tmp_path, "--format", "dcm", "--bundle", bundle_folder, *FAST)
    done = command(
        "replay", tmp_path / "generated_s0_0.dcm", "-o", tmp_path, "--bundle", bundle_folder, "--json"
    )
    document = json.loads(done.stdout)
    assert document["same_pixels"] is True and document["operation"] == "generate"
    made, again = tmp_path / "generated_s0_0.dcm", tmp_path / "generated_s0_0_replay.dcm"
    assert document["files"][0] == str(again)
    assert np.array_equal(Radiograph.read(again).stored, Radiograph.read(made).stored)


def test_a_class_replays_from_renamed_files(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    save_picture(radiographs / "d.png", 9)
    command("generate", "--class-of", radiographs, "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    for number, path in enumerate(sorted(radiographs.iterdir(), reverse=True)):
        path.rename(radiographs / f"{number}.png")
    arguments = ("replay", tmp_path / "generated_s0_0.recipe.json", "-o", tmp_path, "--bundle", bundle_folder)
    assert command(*arguments, "--input", f"class={radiographs}").exit_code == 0
    (radiographs / "0.png").unlink()
    save_picture(radiographs / "0.png", 77)
    refused = command(*arguments, "--input", f"class={radiographs}")
    assert refused.exit_code == 1 and "content differs" in refused.stderr


def changed(blend: Path, tmp_path: Path, **fields: object) -> Path:
    recipe = replace(Recipe.read(blend / "deep_s0_0.recipe.json"), **fields)
    path = tmp_path / "changed.recipe.json"
    path.write_text(recipe.to_json())
    return path


@pytest.mark.parametrize(
    ("fields", "inputs", "sentence"),
    [
        ({"operation": "paint"}, "like,and", "'paint', which cannot be replayed here"),
        ({"version": "9.9.9"}, "like,and", "install dino-diffusion 9.9.9"),
        ({"bundle": "0" * 16}, "like,and", "load the recipe's bundle"),
        ({}, "like", "The input 'and' is missing"),
        ({}, "and,like", "The input 'and' is not the one of the recipe"),
        ({"parameters": {"seed": 1}}, "like,and", "incomplete or of another version"),
    ],
    ids=["operation", "version", "bundle", "missing", "changed", "incomplete"],
)
def test_refusals_are_one_sentence_and_leave_nothing(
    command: Command,
    blend: Path,
    radiographs: Path,
    bundle_folder: Path,
    tmp_path: Path,
    fields: dict[str, object],
    inputs: str,
    sentence: str,
) -> None:
    files = [radiographs / "deep.png", radiographs / "a.png"]
    named = []
    for name, file in zip(inputs.split(","), files, strict=False):
        named += ["--input", f"{name}={file}"]
    recipe = changed(blend, tmp_path, **fields)
    done = command("replay", recipe, *named, "-o", tmp_path / "again", "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert sentence in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].endswith(".")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("text", ["scan.dcm", "=scan.dcm", "like="])
def test_an_input_needs_name_and_file(command: Command, tmp_path: Path, text: str) -> None:
    done = command("replay", tmp_path / "a.json", "--input", text, "-o", tmp_path)
    assert done.exit_code == 1 and "write NAME=FILE" in done.stderr


def test_other_pixels_are_said_and_counted_as_failure(
    command: Command, bundle_folder: Path, tmp_path: Path
) -> None:
    command("generate", "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    path = tmp_path / "generated_s0_0.recipe.json"
    path.write_text(replace(Recipe.read(path), result="00", device="another GPU").to_json())
    done = command("replay", path, "-o", tmp_path, "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert "made on another GPU" in done.stderr
    assert (tmp_path / "generated_s0_0_replay.png").is_file()
