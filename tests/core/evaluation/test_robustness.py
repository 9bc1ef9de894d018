"""Alterations of radiographs and of their masks alike, and what they cost a segmenter that is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.cases import TILE
from dino_diffusion.evaluation.odd_input import ODD_INPUT
from dino_diffusion.evaluation.overlap import mean_dice
from dino_diffusion.evaluation.robustness import evaluate_robustness, read_pair, worst_of_each
from dino_diffusion.radiograph import Labelmap, Radiograph
from dino_diffusion.view_report import ViewReport
from tests.core.evaluation.lungs import two_lungs

SMALL = {name: alter for name, alter in ODD_INPUT.items() if name not in ("2000 pixels", "4000 pixels")}


def picture() -> np.ndarray:
    """A bright body around two dark lungs, the left one darker."""
    shades = np.array([0.8, 0.3, 0.1], np.float32)
    return shades[two_lungs()]


@dataclass(frozen=True)
class Answer:
    """What a segmenter returns."""

    labelmap: Labelmap
    uncertainty: float
    warnings: tuple[str, ...]
    view: ViewReport


def by_shade(radiograph: Radiograph) -> Answer:
    """Knows the lungs by their exact shade, and nothing else."""
    pixels = radiograph.pixels
    labels = np.zeros(pixels.shape, np.uint8)
    labels[np.abs(pixels - 0.3) < 0.05] = 1
    labels[np.abs(pixels - 0.1) < 0.05] = 2
    odd = bool(labels.any()) and radiograph.pixels[0, 0] < 0.5
    right, left = (np.flatnonzero((labels == value).any(0)) for value in (1, 2))
    mirrored = bool(len(right)) and bool(len(left)) and bool(right[0] > left[0])
    warnings = ("A black corner.",) if odd else ()
    return Answer(Labelmap(labels, radiograph), float(odd), warnings, ViewReport(mirrored=mirrored))


@pytest.mark.parametrize("name", ODD_INPUT)
def test_picture_and_labels_stay_together(name: str) -> None:
    """Where the labels say lung, the altered picture has that lung's shade, but for a rim of one pixel."""
    before = picture()
    pixels, labels = ODD_INPUT[name](before, two_lungs())
    assert pixels.shape == labels.shape and pixels.dtype == np.float32 and labels.dtype == np.uint8
    assert pixels.min() >= 0 and pixels.max() <= 1
    assert np.array_equal(before, picture()), "the input was changed"
    shown = 1 - pixels if name == "inverted grey values" else pixels
    dark, darker = (1, 2) if name != "mirrored" else (2, 1)
    for value, shade in ((dark, 0.3), (darker, 0.1)):
        inside = shown[labels == value]
        assert len(inside) and (np.abs(inside - shade) < 0.05).mean() > 0.75


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rotated by +15 degrees", (60, 80)),
        ("black border", (74, 100)),
        ("black border on one side", (60, 100)),
        ("squashed to 4:3", (60, 80)),
        ("squashed to 3:4", (80, 60)),
        ("filled up to 4:3", (60, 80)),
        ("filled up to 3:4", (106, 80)),
        ("200 pixels", (150, 200)),
        ("4000 pixels", (3000, 4000)),
        ("mirrored", (60, 80)),
    ],
)
def test_grids(name: str, shape: tuple[int, int]) -> None:
    assert ODD_INPUT[name](picture(), two_lungs())[0].shape == shape


def test_rotation_has_a_direction_and_a_way_back() -> None:
    there = ODD_INPUT["rotated by +10 degrees"](picture(), two_lungs())
    _, back = ODD_INPUT["rotated by -10 degrees"](*there)
    assert mean_dice(back, two_lungs()) > 0.95 > mean_dice(there[1], two_lungs())
    right, left = (np.argwhere(there[1] == value)[:, 0].mean() for value in (1, 2))
    assert right > left, "counter-clockwise, what lies on the left comes down"


def test_mirrored_labels_follow_the_picture() -> None:
    zones = two_lungs()
    zones[zones == 1] = 4
    _, labels = ODD_INPUT["mirrored"](picture(), zones)
    assert np.array_equal(np.unique(labels[:, :40]), [0, 1])
    assert np.array_equal(np.unique(labels[:, 40:]), [0, 7])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two files, the second one lying on its side."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    grey = (picture() * 255).round().astype(np.uint8)
    Image.fromarray(grey).save(images / "a.png")
    Image.fromarray(two_lungs()).save(masks / "a.png")
    for folder, values in ((images, grey), (masks, two_lungs())):
        lying = sitk.GetImageFromArray(np.ascontiguousarray(values.T)[None])
        lying.SetDirection((0, 1, 0, 0, 0, 1, -1, 0, 0))
        sitk.WriteImage(lying, str(folder / "b.nii.gz"))
    return images, masks


def test_a_lying_mask_is_turned_with_its_image(folders: tuple[Path, Path]) -> None:
    pixels, labels = read_pair(folders[0] / "b.nii.gz", folders[1] / "b.nii.gz")
    assert pixels.shape == labels.shape == (60, 80)
    assert pixels[labels == 1].mean() == pytest.approx(0.3, abs=0.01)
    assert pixels[labels == 2].mean() == pytest.approx(0.1, abs=0.01)


def test_costs_are_those_of_the_segmenter(folders: tuple[Path, Path]) -> None:
    calls: list[tuple[int, int]] = []
    report = evaluate_robustness(*folders, by_shade, SMALL, progress=lambda *done: calls.append(done))
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert calls == [(1, 2), (2, 2)]
    assert (document["n"], document["unaltered"]["dice"]) == (2, 1)
    found = {entry["name"]: entry for entry in document["alterations"]}
    assert list(found) == list(SMALL)
    assert found["filled up to 4:3"]["cost"] == 0
    assert found["black border"]["cost"] == pytest.approx(0)
    assert found["black border"]["share_with_warnings"] == 1
    assert found["inverted grey values"]["cost"] == pytest.approx(1)
    assert found["mirrored"]["cost"] == pytest.approx(1), "it names the lungs by shade, not by side"
    assert found["mirrored"]["share_mirrored"] == 1 and document["unaltered"]["share_mirrored"] == 0
    assert 0 < found["burnt-in letters"]["cost"] < 0.5
    for entry in found.values():
        low, high = entry["cost_ci95"]
        assert low <= entry["cost"] + 1e-9 and entry["cost"] <= high + 1e-9
    assert len(report.rows()) == 2 * (1 + len(SMALL))


def test_bad_files_count_nowhere(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    Image.fromarray(two_lungs()[:50]).save(masks / "c.png")
    (images / "c.png").write_bytes((images / "a.png").read_bytes())
    mirrored = {"mirrored": ODD_INPUT["mirrored"]}
    report = evaluate_robustness(images, masks, by_shade, mirrored)
    assert "80 x 50" in report.failed["c"]
    assert [trial.stem for trial in report.trials["mirrored"]] == ["a", "b"]
    (images / "a.png").unlink()
    (images / "b.nii.gz").unlink()
    with pytest.raises(EvaluationError, match="None of 1 pairs"):
        evaluate_robustness(images, masks, by_shade, mirrored)


def test_page_of_the_worst_case_of_each(folders: tuple[Path, Path]) -> None:
    few = {name: ODD_INPUT[name] for name in ("burnt-in letters", "mirrored", "squashed to 3:4")}
    report = evaluate_robustness(*folders, by_shade, few, limit=1)
    page = worst_of_each(report, by_shade, few)
    assert page.dtype == np.uint8 and page.shape[1] > 4 * TILE and page.shape[0] > 2 * TILE
