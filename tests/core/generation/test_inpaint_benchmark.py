"""`benchmarks/inpainting.py` from end to end on a tiny bundle and drawn pictures."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino_diffusion.generation import library, twin
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.models import ModelBundle
from tests.core.cli.conftest import half_and_half
from tests.tiny import saved_tiny_bundle, smooth_picture


@pytest.mark.slow
def test_every_figure_is_measured(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = ModelBundle.from_pretrained(saved_tiny_bundle(tmp_path / "tiny"))
    rows = []
    for number in range(12):
        picture = (smooth_picture(number, 70, 60) * 255).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        split, finding = ("train", "holdout")[number % 2], ("normal", "Effusion|Mass")[number // 2 % 2]
        row = {"source": "drawn", "split": split, "finding": finding, "patient_id": str(number)}
        rows.append({"image": f"{number}.png"} | row)
    with open(tmp_path / "list.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    concept = Concept("haze", torch.ones(1, bundle.denoiser.config.token_width), model_id(bundle))
    monkeypatch.setattr(library, "find_concept", lambda name: concept)
    monkeypatch.setattr(twin, "segment_lungs", half_and_half)
    monkeypatch.syspath_prepend(repository / "benchmarks")
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- measured: benchmarks/inpainting.py -->\n<!-- end of measured -->\nAfter\n")
    arguments = ["--source", "drawn", "--images", "2", "--concepts", "effusion", "--json", "--steps", "2"]
    arguments += ["--write", str(page)]
    arguments += ["--bundle", str(tmp_path / "tiny"), "--pictures", str(tmp_path / "sheets")]
    monkeypatch.setattr(sys, "argv", ["inpainting.py", str(tmp_path / "list.csv"), *arguments])
    benchmark = importlib.import_module("inpainting")
    benchmark.main()
    report = json.loads(capsys.readouterr().out)
    assert report["edits"]["identical_outside"] == 1
    assert report["edits"]["median"]["change"] > 0
    assert report["cost"]["peak_gb"] > 0
    assert report["concepts"]["effusion"]["encoder-cls"]["n_painted"] == 2
    assert len(list((tmp_path / "sheets").iterdir())) == 2
    assert "| effusion | encoder-cls |" in benchmark.table(report)
    assert "| effusion | encoder-cls |" in page.read_text() and report["bundle"] in page.read_text()
