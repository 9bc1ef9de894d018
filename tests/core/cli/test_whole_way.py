"""The demo on random weights: samples made, labelled by the real code, varied. Quality is not looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Command = Callable


def test_samples_are_labelled_and_varied(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    common = ("--bundle", bundle_folder, "--device", "cpu")
    made = command("samples", "-n", 2, "--steps", 2, "-o", tmp_path / "samples", *common)
    assert made.exit_code == 0, made.output

    labelled = command(
        "segment", tmp_path / "samples", "-o", tmp_path / "labels", "--format", "png", "--json", *common
    )
    assert labelled.exit_code == 0, labelled.output
    results = json.loads(labelled.stdout)["results"]
    assert [Path(result["input"]).name for result in results] == ["synthetic-1.png", "synthetic-2.dcm"]
    for result in results:
        labels = np.asarray(Image.open(result["labelmap"]))
        assert list(labels.shape) == result["shape"]
        assert set(np.unique(labels)) <= {0, 1, 2}
        assert 0 <= result["uncertainty"] <= 1

    varied = command(
        "generate", "--like", results[1]["input"], "--steps", 2, "-o", tmp_path / "variants", *common
    )
    assert varied.exit_code == 0, varied.output
    assert (tmp_path / "variants" / "synthetic-2_s0_0.png").is_file()
