"""`benchmarks/segmentation.py` from end to end on a tiny bundle: every row runs, and a run can be resumed."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.segmentation import heads
from tests.core.evaluation.lungs import two_lungs
from tests.tiny import saved_tiny_bundle, smooth_picture

WITHOUT_TRAINING = (
    "ours,clusters,random-clusters,oracle,merged-attention,normalised-cut,attention-walk,threshold"
)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A list of six pictures with masks and eight to train on, and the tiny bundle."""
    folder = tmp_path_factory.mktemp("benchmark")
    rows = []
    for number in range(14):
        name = f"{number}.png"
        Image.fromarray((smooth_picture(number, 60, 80) * 255).clip(0, 255).astype(np.uint8)).save(
            folder / name
        )
        row = {"image": name, "split": "train", "mask": "", "patient_id": str(number // 2), "source": "drawn"}
        if number < 6:
            Image.fromarray(two_lungs(shift=number)).save(folder / f"mask{number}.png")
            row |= {"split": "dev", "mask": f"mask{number}.png"}
        rows.append(row)
    with open(folder / "list.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    bundle = saved_tiny_bundle(folder / "bundle")
    return [
        *("segmentation.py", "--data", str(folder / "list.csv"), "--bundle", str(bundle)),
        *("--recipe", "smoke/readout", "--device", "cpu", "--limit", "3", "--folds", "2"),
        *("--unet-steps", "1", "-o", str(folder / "out")),
    ]


@pytest.fixture
def run(
    arguments: list[str],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], dict]:
    """`run("ours,threshold")` as on the command line; what is printed and what is written agree."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    benchmark = importlib.import_module("segmentation")

    def report_of(rows: str) -> dict:
        monkeypatch.setattr(sys, "argv", [*arguments, "--rows", rows])
        benchmark.main()
        folder = Path(arguments[-1])
        assert capsys.readouterr().out.strip() == (folder / "segmentation.md").read_text().strip()
        return json.loads((folder / "segmentation.json").read_text())

    return report_of


def test_rows_are_measured_alike_and_kept(run: Callable[[str], dict]) -> None:
    first = run(WITHOUT_TRAINING)
    assert list(first["rows"]) == WITHOUT_TRAINING.split(",")
    for row in first["rows"].values():
        assert (row["n"], row["failed"]) == (3, 0)
        assert 0 <= row["dice"]["mean"] <= 1 and row["denoiser_passes"] > 0
    assert run("threshold,ours") == first, "what is there was measured again"


@pytest.mark.slow
def test_rows_that_learn(run: Callable[[str], dict]) -> None:
    rows = "refitted,random,patches,fine-patches,tokens,supervised"
    assert set(rows.split(",")) <= run(rows)["rows"].keys()


def test_rows_taught_by_examples_never_label_these(
    run: Callable[[str], dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "STEPS", 2)
    rows = importlib.import_module("segmentation_rows")
    label, taught, labelled = rows.label_file_with, set(), set()

    def label_file_with(bundle: Any, embeddings: Any, path: Path) -> Any:
        taught.update(image for embedding in embeddings for image in embedding.lessons[0].images)
        labelled.add(sha256(path.read_bytes()).hexdigest())
        return label(bundle, embeddings, path)

    monkeypatch.setattr(rows, "label_file_with", label_file_with)
    found = run("one-example")["rows"]["one-example"]
    assert (found["n"], found["failed"]) == (3, 0)
    assert len(taught) == len(labelled) == 3, "three images are left, so each scored one has another teacher"
    assert not taught & labelled
    with pytest.raises(SystemExit, match="3 images beside the scored ones are too few to teach 5"):
        run("five-examples")


def test_unknown_row_is_one_sentence(run: Callable[[str], dict]) -> None:
    with pytest.raises(SystemExit, match="There is no row best; take some of ours,"):
        run("best")
