"""`benchmarks/oneshot.py` on a tiny bundle: one example and several, beside the label-free answer."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.segmentation import heads
from tests.core.evaluation.lungs import two_lungs
from tests.tiny import saved_tiny_bundle, smooth_picture


@pytest.fixture
def oneshot(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, called with a folder of six images and one of masks; learning is short."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for number in range(6):
        grey = (smooth_picture(number, 60, 80) * 255).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey).save(images / f"{number}.png")
        Image.fromarray(two_lungs(shift=number)).save(masks / f"{number}.png")
    bundle = saved_tiny_bundle(tmp_path / "bundle")
    files = ["--images", str(images), "--masks", str(masks), "--bundle", str(bundle), "--device", "cpu"]
    draws = ["--choices", "2", "--several", "2", "--draws", "1"]
    monkeypatch.setattr(heads, "STEPS", 2)
    monkeypatch.setattr(sys, "argv", ["oneshot.py", *files, *draws])
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("oneshot")


def test_one_example_and_several_label_the_same_other_images(oneshot: ModuleType) -> None:
    report = oneshot.measure(oneshot.parse())
    assert report["n"] == 4, "neither draw's examples are labelled"
    assert report["structure"] == "labels 1, 2" and 0 <= report["label_free"] <= 1
    assert {name: found["draws"] for name, found in report["groups"].items()} == {"one": 2, "several": 1}
    assert len(report["one_per_choice"]) == 2
    assert report["groups"]["one"]["dice"] == pytest.approx(np.mean(report["one_per_choice"]))
    printed = "\n".join(oneshot.table(report))
    assert "one example" in printed and "2 examples" in printed and "label-free" in printed


def test_zones_have_no_label_free_row(oneshot: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--zones", "--limit", "1"])
    report = oneshot.measure(oneshot.parse())
    assert (report["structure"], report["n"], report["label_free"]) == ("zones", 1, None)
    assert not any(line.startswith("label-free") for line in oneshot.table(report))
