"""`dino-diffusion strip`: frames, recipes, the sheet, the measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dino_diffusion.generation import strip as library
from dino_diffusion.generation.composition import WITHOUT_OPPOSITE
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph

Command = Callable[..., Any]
FAST = ("--frames", 3, "--steps", 3)


@pytest.fixture(scope="module")
def ends(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("concepts")
    model = model_id(ModelBundle.from_pretrained(bundle_folder))
    generator = torch.Generator().manual_seed(0)
    first, second = (
        Concept(name, torch.randn(2, 32, generator=generator), model).save(folder / f"{name}.safetensors")
        for name in ("start", "end")
    )
    return first, second


@pytest.fixture(autouse=True)
def simple_lungs(monkeypatch: pytest.MonkeyPatch) -> None:
    def halves(bundle: ModelBundle, pixels: np.ndarray, callback: object) -> np.ndarray:
        labels = np.ones(pixels.shape, np.uint8)
        labels[:, pixels.shape[1] // 2 :] = 2
        return labels

    monkeypatch.setattr(library, "_lungs", halves)


def test_frames_recipes_and_a_sheet(
    command: Command, radiographs: Path, bundle_folder: Path, ends: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command(
        "strip", radiographs / "a.png", "--from", ends[0], "--to", ends[1], "-o", out, "--json",
        "--bundle", bundle_folder, *FAST,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    names = [f"a_strip_{k}{ending}" for k in range(3) for ending in (".png", ".recipe.json")]
    assert sorted(path.name for path in out.iterdir()) == sorted(["a_strip.png", *names])
    document = json.loads(done.stdout)
    assert [frame["share"] for frame in document["frames"]] == [0, 0.5, 1]
    assert all(0 <= frame["opacity"] <= 1 for frame in document["frames"])
    assert document["trends"].keys() == {"opacity", "cardiothoracic_ratio"}
    mark = Radiograph.read(out / "a_strip_1.png").source.synthetic
    assert mark is not None
    assert mark == json.loads((out / "a_strip_1.recipe.json").read_text())


def test_a_table_for_people(
    command: Command, radiographs: Path, bundle_folder: Path, ends: tuple[Path, Path], tmp_path: Path
) -> None:
    done = command(
        "strip", radiographs / "a.png", "--from", ends[0], "--to", ends[1], "-o", tmp_path / "out",
        "--bundle", bundle_folder, *FAST,
    )  # fmt: skip
    assert "rank correlation" in done.stdout
    assert "3 frames" in done.stdout


def test_help_tells_the_librarys_own_defaults(command: Command) -> None:
    said, settings = command("strip", "--help").stdout, library.StripSettings()
    usual = library.GUIDANCE, WITHOUT_OPPOSITE
    for value in (settings.strength, *usual, settings.frames, settings.steps):
        assert f"{value}" in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--frames", "1"], 2),
        (["--strength", "0"], 1),
        (["--guidance", "-1"], 1),
        (["--from", "no-such-thing"], 1),
    ],
)
def test_bad_calls_say_why_and_leave_nothing(
    command: Command,
    radiographs: Path,
    bundle_folder: Path,
    ends: tuple[Path, Path],
    tmp_path: Path,
    arguments: list[str],
    code: int,
) -> None:
    done = command(
        "strip", radiographs / "a.png", "--from", ends[0], "--to", ends[1], "-o", tmp_path / "out",
        "--bundle", bundle_folder, *arguments,
    )  # fmt: skip
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()
