"""`dino-diffusion generate` and `samples`: names, marks, recipes, the same again for the same seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from dino_diffusion.cli.generate import AT_ONCE
from dino_diffusion.generation import variants
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import ModelBundle
from dino_diffusion.pictures import to_uint8
from dino_diffusion.radiograph import Radiograph
from tests.tiny import smooth_picture

Command = Callable
FAST = ("--steps", 2)


def test_pictures_recipes_and_a_sheet(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    done = command("generate", "-n", 2, "--seed", 7, "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "generated_s7_0.png",
        "generated_s7_0.recipe.json",
        "generated_s7_1.png",
        "generated_s7_1.recipe.json",
        "generated_s7_sheet.png",
    ]
    recipe = Recipe.from_json((tmp_path / "generated_s7_1.recipe.json").read_text())
    assert recipe.parameters["seed"] == 7
    assert recipe.parameters["index"] == 1
    assert "generated_s7_1.png" in done.stdout


def test_a_picture_says_that_it_is_synthetic(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    command("generate", "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    mark = Radiograph.read(tmp_path / "generated_s0_0.png").source.synthetic
    assert mark == json.loads((tmp_path / "generated_s0_0.recipe.json").read_text())
    assert Image.open(tmp_path / "generated_s0_0.png").mode == "L"


def test_the_same_seed_replaces_its_own_pictures_with_the_same(
    command: Command, bundle_folder: Path, tmp_path: Path
) -> None:
    arguments = ("generate", "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    command(*arguments)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command(*arguments)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    command(*arguments, "--seed", 1)
    assert before.items() < {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()


def test_variants_carry_the_name_of_their_original(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command("generate", "--like", radiographs / "a.png", "-o", out, "--bundle", bundle_folder, *FAST)
    assert done.exit_code == 0, done.output
    assert (out / "a_s0_0.png").is_file()
    recipe = json.loads((out / "a_s0_0.recipe.json").read_text())
    assert recipe["inputs"]["like"] == Radiograph.read(radiographs / "a.png").source.sha256


def test_json(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    done = command(
        "generate", "-n", 3, "-o", tmp_path, "--bundle", bundle_folder, "--json", "--guidance", 1.5, *FAST
    )
    document = json.loads(done.stdout)
    assert [image["index"] for image in document["images"]] == [0, 1, 2]
    assert all(
        Path(image["image"]).is_file() and Path(image["recipe"]).is_file() for image in document["images"]
    )
    assert document["images"][0]["guidance"] == 1.5
    assert Path(document["contact_sheet"]).is_file()


def test_what_is_made_before_an_interruption_is_kept_whole(
    command: Command, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = variants.generate

    def interrupted(*arguments: Any, first: int = 0, **settings: Any) -> list[variants.Synthetic]:
        if first > 0:
            raise KeyboardInterrupt
        return honest(*arguments, first=first, **settings)

    monkeypatch.setattr(variants, "generate", interrupted)
    done = command("generate", "-n", 20, "--steps", 1, "-o", tmp_path, "--bundle", bundle_folder)
    assert done.exit_code == 130
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.recipe.json"))) == AT_ONCE
    assert len(list(tmp_path.iterdir())) == 2 * AT_ONCE


def test_a_gpu_without_memory_is_one_sentence(
    command: Command, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(variants, "generate", too_large)
    done = command("generate", "-o", tmp_path / "out", "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].endswith("add --device cpu.")
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_a_written_recipe_replays_the_written_picture(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    """A 16-bit original that is no square; the recipe is read from the picture's own metadata."""
    original = radiographs / "deep.png"
    Image.fromarray((smooth_picture(5, 90, 60) * 65535).clip(0, 65535).astype(np.uint16)).save(original)
    command(
        "generate", "--like", original, "-n", 10, "--bundle", bundle_folder, "-o", tmp_path / "out", *FAST
    )
    written = Radiograph.read(tmp_path / "out" / "deep_s0_9.png")
    assert written.source.synthetic is not None
    recipe = Recipe(**written.source.synthetic)
    again = variants.replay(
        recipe, ModelBundle.from_pretrained(bundle_folder), {"like": Radiograph.read(original)}
    )
    assert written.shape == again.pixels.shape
    assert np.array_equal(written.stored, to_uint8(again.pixels))


def test_help_tells_the_librarys_own_defaults(command: Command) -> None:
    said = command("generate", "--help").stdout
    assert f"({variants.DEFAULT_STEPS})" in said
    assert f"({variants.DEFAULT_GUIDANCE})" in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-n", "0"], 2),
        (["--steps", "0"], 2),
        (["--guidance", "-1"], 2),
        (["--seed", "-1"], 2),
        (["--like", "missing.png"], 1),
        (["--like", "."], 1),
    ],
)
def test_bad_calls_say_why_and_leave_nothing(
    command: Command, bundle_folder: Path, tmp_path: Path, arguments: list[str], code: int
) -> None:
    done = command("generate", "-o", tmp_path / "out", "--bundle", bundle_folder, *arguments)
    assert done.exit_code == code
    assert done.stderr.strip()
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_samples_are_marked_and_one_is_dicom(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    done = command("samples", "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "synthetic-1.png",
        "synthetic-2.png",
        "synthetic-3.dcm",
    ]
    for path in tmp_path.iterdir():
        mark = Radiograph.read(path).source.synthetic
        assert mark is not None
        assert mark["synthetic"].startswith("synthetic")


def test_the_dicom_sample_is_a_dx_of_nobody(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    command("samples", "-n", 1, "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    command("generate", "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    dataset = pydicom.dcmread(tmp_path / "synthetic-1.dcm")
    assert (dataset.Modality, dataset.PatientName, dataset.BitsStored) == ("DX", "Synthetic", 12)
    assert list(dataset.ImageType[:1]) == ["DERIVED"]
    shown = Radiograph.read(tmp_path / "synthetic-1.dcm")
    assert shown.spacing_mm is not None
    same = Radiograph.read(tmp_path / "generated_s0_0.png")
    assert np.corrcoef(shown.pixels.ravel(), same.pixels.ravel())[0, 1] > 0.999
