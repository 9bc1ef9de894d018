"""`dino-diffusion twin`: its files, and that they are on the image's own grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino_diffusion.codes import FIRST_LEARNT
from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.generation import save_twin, twin
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from tests.core.cli.conftest import half_and_half
from tests.core.radiograph.phantom import chest, dicom

Command = Callable
FAST = ("--steps", 2, "--candidates", 2)


@pytest.fixture
def concept(tmp_path: Path, bundle_folder: Path) -> Path:
    bundle = ModelBundle.from_pretrained(bundle_folder)
    vectors = torch.zeros(1, bundle.denoiser.config.token_width)
    return Concept("well", vectors, model_id(bundle)).save(tmp_path / "well.safetensors")


@pytest.fixture
def notice_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny random model's twin differs everywhere; here every difference is a region."""
    monkeypatch.setattr(twin, "DEVIATIONS", 0.01)
    monkeypatch.setattr(twin, "SMALLEST_CHANGE", 0.001)


@pytest.mark.usefixtures("notice_everything")
@pytest.mark.parametrize("kind", ["png", "dcm"])
def test_all_files_of_a_twin(
    command: Command,
    bundle_folder: Path,
    tmp_path: Path,
    concept: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(twin, "segment_lungs", half_and_half)
    source, out = tmp_path / f"film.{kind}", tmp_path / "out"
    if kind == "dcm":
        dicom(source, chest(), WindowCenter=2048, WindowWidth=3000)
    else:
        Image.fromarray(chest(levels=65536)).save(source)
    arguments = ("-o", out, "--bundle", bundle_folder, "--concept", concept, "--json", *FAST)
    done = command("twin", source, *arguments)
    assert done.exit_code == 0, done.output
    endings = [
        f".{kind}",
        ".recipe.json",
        "_difference.png",
        f"_mask.{kind}",
        f"_regions.{kind}",
        "_sheet.png",
    ]
    assert sorted(path.name for path in out.iterdir()) == [f"film_twin{ending}" for ending in endings]
    document = json.loads(done.stdout)
    radiograph, made = Radiograph.read(source), Radiograph.read(document["image"])
    mask = read_labels(document["mask"], made) > 0
    assert np.array_equal(made.stored[~mask], radiograph.stored[~mask])
    assert document["pixels_outside_identical"] == (~mask).sum()
    regions = read_labels(document["regions"], radiograph)
    assert regions[mask].any() and not regions[~mask].any()
    assert document["regions_found"][0]["label"] == FIRST_LEARNT
    assert Recipe.read(Path(document["recipe"])).parameters["concepts"] == [["well", 1.0]]


def test_no_region_no_file(
    command: Command, bundle_folder: Path, tmp_path: Path, concept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twin, "SMALLEST_CHANGE", 2.0)
    Image.fromarray(chest(levels=256, dtype="uint8")).save(tmp_path / "film.png")
    Image.fromarray(np.eye(96, 80, dtype=np.uint8)).save(tmp_path / "mask.png")
    arguments = ("--mask", tmp_path / "mask.png", "--concept", concept, "--bundle", bundle_folder, *FAST)
    done = command("twin", tmp_path / "film.png", *arguments, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "no region differs" in done.stdout
    assert not list((tmp_path / "out").glob("*regions*"))


def test_an_interruption_while_writing_leaves_nothing(
    command: Command, bundle_folder: Path, tmp_path: Path, concept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(save_twin, "save_png", stop)
    Image.fromarray(chest(levels=256, dtype="uint8")).save(tmp_path / "film.png")
    Image.fromarray(np.eye(96, 80, dtype=np.uint8)).save(tmp_path / "mask.png")
    arguments = ("--mask", tmp_path / "mask.png", "--concept", concept, "--bundle", bundle_folder, *FAST)
    done = command("twin", tmp_path / "film.png", *arguments, "-o", tmp_path / "out")
    assert done.exit_code == 130
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--concept", "nobody-knows"], 1, "nobody-knows"), (["--candidates", "1"], 2, "--candidates")],
)
def test_bad_calls_say_why_and_leave_nothing(
    command: Command, bundle_folder: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    Image.fromarray(chest(levels=256, dtype="uint8")).save(tmp_path / "film.png")
    done = command(
        "twin", tmp_path / "film.png", *arguments, "-o", tmp_path / "out", "--bundle", bundle_folder
    )
    assert done.exit_code == code
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
