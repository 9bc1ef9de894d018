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
from dino_diffusion.generation.nearest import index_embedding
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import ModelBundle
from dino_diffusion.models.training_index import TrainingIndex
from dino_diffusion.radiograph import Radiograph
from tests.core.cli.conftest import save_picture

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


def test_variants_have_the_aspect_of_their_original(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    command("generate", "--like", radiographs / "a.png", "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    assert Radiograph.read(tmp_path / "a_s0_0.png").shape == (64, 53)


def test_every_way_of_varying(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    a, b, c = (radiographs / f"{name}.png" for name in "abc")
    save_picture(radiographs / "d.png", 9)
    ways = {
        "blend": ("--like", a, "--and", b, "--and", c, "--mix", 0.3, "--mix", 0.2),
        "near": ("--like", a, "--strength", 0.5, "--jitter", 0.2),
        "class": ("--class-of", radiographs),
        "toward": ("--like", a, "--class-of", radiographs, "--strength", 0.6),
    }
    pictures, parameters = {}, {}
    for name, options in ways.items():
        out = tmp_path / name
        done = command("generate", *options, "-o", out, "--bundle", bundle_folder, "--json", *FAST)
        assert done.exit_code == 0, done.output
        image = json.loads(done.stdout)["images"][0]
        pictures[name], parameters[name] = Radiograph.read(image["image"]).stored, image
    assert parameters["blend"]["mix"] == [0.3, 0.2]
    assert (parameters["near"]["strength"], parameters["near"]["jitter"]) == (0.5, 0.2)
    assert pictures["class"].shape == (64, 64) and pictures["toward"].shape == (64, 53)
    assert not np.array_equal(pictures["near"], pictures["toward"])


def test_a_list_can_name_the_class(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    save_picture(radiographs / "d.png", 9)
    (radiographs / "list.csv").write_text("image,finding\n" + "".join(f"{n}.png,x\n" for n in "abcd"))
    shared = ("-o", tmp_path, "--bundle", bundle_folder, "--json", *FAST)
    by_list, by_folder = (
        json.loads(command("generate", "--class-of", place, *shared).stdout)["images"][0]["recipe"]
        for place in (radiographs / "list.csv", radiographs)
    )
    assert Path(by_list).read_text() == Path(by_folder).read_text()


@pytest.mark.parametrize("format", ["png", "tiff", "nii.gz", "nrrd", "mha", "dcm"])
def test_every_format_carries_the_recipe(
    command: Command, bundle_folder: Path, tmp_path: Path, format: str
) -> None:
    done = command("generate", "--format", format, "-o", tmp_path, "--bundle", bundle_folder, "--json", *FAST)
    image = json.loads(done.stdout)["images"][0]
    assert Recipe.read(Path(image["image"])) == Recipe.read(Path(image["recipe"]))


@pytest.mark.parametrize("chosen", ["--like", "--and", "--class-of"])
def test_an_original_in_the_output_folder_is_not_replaced(
    command: Command, radiographs: Path, bundle_folder: Path, chosen: str
) -> None:
    """Made by an earlier run and now used as an input of the same name."""
    first = "a" if chosen == "--and" else "generated"
    name = "a_s0_0.png" if chosen == "--and" else "generated_s0_0.png"
    save_picture(radiographs / name, 4)
    before = (radiographs / name).read_bytes()
    options: dict[str, tuple[object, ...]] = {
        "--and": ("--like", radiographs / "a.png", "--and", radiographs / name),
        "--class-of": ("--class-of", radiographs),
        "--like": ("--like", radiographs / "generated.png"),
    }
    if chosen == "--like":
        (radiographs / name).rename(radiographs / "generated.png")
        (radiographs / name).hardlink_to(radiographs / "generated.png")
    done = command("generate", *options[chosen], "-o", radiographs, "--bundle", bundle_folder, *FAST)
    assert (done.exit_code, first in done.stderr) == (1, True)
    assert "would replace an original" in done.stderr
    assert (radiographs / name).read_bytes() == before


def test_without_an_index_the_missing_check_is_said_once(
    command: Command, bundle_folder: Path, tmp_path: Path
) -> None:
    done = command("generate", "-n", 2, "-o", tmp_path, "--bundle", bundle_folder, *FAST)
    assert done.stderr.count("Not compared with the training images") == 1


def test_a_possible_copy_is_warned_of(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    """The index holds the very picture that this seed gives."""
    bundle = ModelBundle.from_pretrained(bundle_folder)
    token = index_embedding(bundle, variants.generate(bundle, steps=2)[0].pixels)
    others = np.random.default_rng(0).normal(size=(150, token.shape[1])).astype(np.float32)
    bundle.training_index = TrainingIndex.of(
        np.concatenate([others, token]), [*(f"p{number}" for number in range(150)), ""]
    )
    bundle.save_pretrained(tmp_path / "bundle")
    arguments = ("generate", "-n", 2, "-o", tmp_path / "out", "--bundle", tmp_path / "bundle", *FAST)
    assert "it may be a copy" in command(*arguments).stdout
    document = json.loads(command(*arguments, "--json").stdout)
    assert document["images"][0]["checks"]["nearest_training_image"]["image"] == 150
    assert document["images"][0]["warnings"] and document["nearest_checked"]


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
        (["--strength", "0.5"], 1),
        (["--jitter", "0.5"], 1),
        (["--mix", "0.5"], 1),
        (["--mix", "1.5"], 2),
        (["--class-of", "."], 1),
        (["--format", "jpg"], 2),
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
        "synthetic-3.png",
        "synthetic-4.dcm",
    ], "what ships, so that install-bundle makes it anew"
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
