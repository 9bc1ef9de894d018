"""`dino-diffusion evaluate`: the JSON contract, limits, what could not be read."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.evaluation import evenly
from tests.tiny import smooth_picture

Command = Callable


@pytest.fixture
def masks(radiographs: Path, tmp_path: Path) -> Path:
    """Exactly what the stand-in for the lungs says, but for c, whose left lung is missing."""
    folder = tmp_path / "masks"
    folder.mkdir()
    labels = np.zeros((48, 40), np.uint8)
    labels[:, :10], labels[:, 20:] = 1, 2
    for name in "abc":
        Image.fromarray(np.where((labels == 2) & (name == "c"), 0, labels).astype(np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


@pytest.mark.usefixtures("simple_lungs")
def test_segmentation_json(command: Command, radiographs: Path, masks: Path, bundle_folder: Path) -> None:
    done = command(
        "evaluate",
        "segmentation",
        "--images",
        radiographs,
        "--masks",
        masks,
        "--bundle",
        bundle_folder,
        "--json",
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["n"] == 3
    assert document["dice"].keys() == {"right", "left", "mean", "p5"}
    assert document["dice"]["right"] == 1
    assert document["dice"]["left"] == pytest.approx(2 / 3)
    assert {"hd95", "per_image"} <= document.keys()


@pytest.mark.usefixtures("simple_lungs")
def test_segmentation_for_a_person(
    command: Command, radiographs: Path, masks: Path, bundle_folder: Path
) -> None:
    (radiographs / "b.png").write_text("no picture")
    Image.new("L", (9, 9)).save(masks / "c.png")
    done = command(
        "evaluate", "segmentation", "--images", radiographs, "--masks", masks, "--bundle", bundle_folder
    )
    assert done.exit_code == 1
    assert "1 images" in done.stdout
    assert "right 1.0000" in done.stdout
    assert "b.png" in done.stderr
    assert "c: The mask is 9 x 9 pixels" in done.stderr


@pytest.mark.usefixtures("simple_lungs")
def test_segmentation_of_a_few(command: Command, radiographs: Path, masks: Path, bundle_folder: Path) -> None:
    arguments = ("--images", radiographs, "--masks", masks, "--bundle", bundle_folder, "--json", "--limit", 1)
    document = json.loads(command("evaluate", "segmentation", *arguments).stdout)
    assert [entry["stem"] for entry in document["per_image"]] == ["b"]
    assert document["masks_without_image"] == []


def test_a_limit_picks_evenly() -> None:
    assert evenly(10, 2) == [2, 7]
    assert evenly(3, 3) == [0, 1, 2]


def test_folders_that_do_not_pair(command: Command, radiographs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = command("evaluate", "segmentation", "--images", radiographs, "--masks", tmp_path / "empty")
    assert done.exit_code == 1
    assert "mask of the same name" in done.stderr


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
