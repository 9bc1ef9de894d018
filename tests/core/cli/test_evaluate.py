"""`dino-diffusion evaluate generation`: the JSON contract, what could not be read."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import smooth_picture

Command = Callable


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[Path, Path]:
    """24 real and 12 synthetic pictures of the same kind, a contact sheet and a broken file among them."""
    folders = tmp_path / "real", tmp_path / "synthetic"
    for folder, seeds in zip(folders, (range(24), range(100, 112)), strict=True):
        folder.mkdir()
        for seed in seeds:
            picture = (smooth_picture(seed).clip(0, 1) * 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{seed}.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folders[1] / "generated_s0_sheet.png")
    (folders[0] / "broken.png").write_text("no picture")
    return folders


def test_generation_json(command: Command, two_sets: tuple[Path, Path], bundle_folder: Path) -> None:
    real, synthetic = two_sets
    done = command(
        "evaluate",
        "generation",
        "--real",
        real,
        "--synthetic",
        synthetic,
        "--bundle",
        bundle_folder,
        "--json",
    )
    assert done.exit_code == 1, done.output
    document = json.loads(done.stdout)
    ours = document["nets"][0]
    assert ours["net"] == "encoder-cls"
    assert (ours["n_real"], ours["n_synthetic"], ours["n_equal"]) == (24, 12, 12)
    assert {"fid", "fid_floor", "kid", "kid_ci", "precision", "recall"} <= ours.keys()
    assert len(document["failed"]) == 1
    installed = importlib.util.find_spec("efficientnet_lite_pytorch") is not None
    assert len(document["nets"]) == 1 + installed
    assert len(document["missing_nets"]) == 1 - installed


def test_generation_for_a_person(command: Command, two_sets: tuple[Path, Path], bundle_folder: Path) -> None:
    real, synthetic = two_sets
    done = command(
        "evaluate", "generation", "--real", real, "--synthetic", synthetic, "--bundle", bundle_folder
    )
    assert done.exit_code == 1, done.output
    assert "12 synthetic against 24 real images" in done.stdout
    assert "broken.png" in done.stderr


def test_too_few_images_to_say_anything(command: Command, radiographs: Path, bundle_folder: Path) -> None:
    done = command(
        "evaluate", "generation", "--real", radiographs, "--synthetic", radiographs, "--bundle", bundle_folder
    )
    assert done.exit_code == 1
    assert "too few to compare" in done.stderr
