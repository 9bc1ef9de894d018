"""`dino-diffusion evaluate segmentation` and `robustness`: JSON contract, files, limits, unreadable input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.evaluation import evenly
from dino_diffusion.evaluation.odd_input import ODD_INPUT

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
    assert {"hd95", "per_image", "ci95", "uncertainty", "share_with_warnings"} <= document.keys()
    assert document["uncertainty"]["n_below"] == 1
    assert document["per_image"][0]["uncertainty"] == 0.25


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
    assert "Dice right    1.0000" in done.stdout
    assert "cannot be said: No image has a Dice below 0.85" in done.stdout
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


@pytest.mark.usefixtures("simple_lungs")
def test_segmentation_writes_a_table_and_a_page(
    command: Command, radiographs: Path, masks: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    arguments = ("--images", radiographs, "--masks", masks, "--bundle", bundle_folder, "-o", tmp_path / "out")
    done = command("evaluate", "segmentation", *arguments)
    assert done.exit_code == 0, done.output
    assert "AUROC 0.50" in done.stdout and "100.0% of the images came with a warning" in done.stdout
    with open(tmp_path / "out" / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stem"] for row in rows] == ["a", "b", "c"]
    assert [float(row["mean"]) for row in rows] == [1, 1, 0.5]
    assert rows[0]["warnings"] == "The two lungs differ much in size."
    with Image.open(tmp_path / "out" / "worst_cases.png") as page:
        assert page.mode == "RGB"


@pytest.mark.usefixtures("simple_lungs")
def test_robustness(
    command: Command, radiographs: Path, masks: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    arguments = ("--images", radiographs, "--masks", masks, "--bundle", bundle_folder, "--limit", 1)
    document = json.loads(command("evaluate", "robustness", *arguments, "--json").stdout)
    assert (document["n"], document["unaltered"]["dice"], document["tolerated"]) == (1, 1, 0.03)
    cost = {entry["name"]: entry["cost"] for entry in document["alterations"]}
    assert list(cost) == list(ODD_INPUT)
    assert cost["inverted grey values"] == 0
    assert cost["rotated by +15 degrees"] > 0.03
    done = command("evaluate", "robustness", *arguments, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert any(line.startswith("rotated by +15 degrees") and line.endswith("above 0.03") for line in lines)
    assert not any(line.startswith("inverted") and "above" in line for line in lines)
    with open(tmp_path / "out" / "trials.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1 + len(ODD_INPUT)
    assert (tmp_path / "out" / "worst_cases.png").is_file()


def test_a_folder_that_cannot_be_written_fails_before_the_work(
    command: Command, radiographs: Path, masks: Path
) -> None:
    for what in ("segmentation", "robustness"):
        place = radiographs / "a.png" / "out"
        done = command("evaluate", what, "--images", radiographs, "--masks", masks, "-o", place)
        assert done.exit_code == 1
        assert "cannot be written to" in done.stderr
