"""`benchmarks/encoder.py` from end to end on tiny encoders, of one backbone and of two."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import saved_tiny_bundle, smooth_picture, tiny_backbone


@pytest.fixture
def run(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[Path], list[list[str]]]:
    """`run(teacher)`: the cells of the table's rows."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    benchmark = importlib.import_module("encoder")
    rows = [("image", "split", "patient_id", "finding", "mask")]
    for number in range(32):
        # Pictures that differ between left and right, and more so the sick ones.
        sick = number % 4 < 2
        picture = smooth_picture(number) + np.linspace(-0.2, 0.2 + 0.2 * sick, 64, dtype=np.float32)
        Image.fromarray((picture * 255).clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[8:56, 4:28], mask[8:56, 36:60] = 1, 2
        Image.fromarray(mask).save(tmp_path / f"mask{number}.png")
        held_out = number % 2
        finding = "tb" if sick else "normal"
        rows.append(
            (f"{number}.png", "holdout" if held_out else "dev", f"p{number}", finding, f"mask{number}.png")
        )
    with open(tmp_path / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    bundle = saved_tiny_bundle(tmp_path / "bundle")
    arguments = ["encoder.py", str(tmp_path / "list.csv"), "--work", str(tmp_path / "work")]
    arguments += ["--bundle", str(bundle), "--limit", "12"]
    monkeypatch.setattr(benchmark, "RESAMPLES", 20)

    def cells(teacher: Path) -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", [*arguments, "--teacher", str(teacher)])
        benchmark.main()
        lines = capsys.readouterr().out.splitlines()
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"][
            2:
        ]

    return cells


def numbers(cell: str) -> list[float]:
    """`0.608 (0.565 to 0.651)`."""
    return [float(part.strip("()")) for part in cell.split() if part != "to"]


def test_an_encoder_beside_its_own_blocks_and_beside_others(
    run: Callable[[Path], list[list[str]]], tmp_path: Path
) -> None:
    rows = run(tmp_path / "bundle" / "encoder")
    work = tmp_path / "work"
    assert len(list(work.iterdir())) == 4, "equal blocks were run twice"
    assert [row[-1] for row in rows] == ["12", "12", "16", "16", "16", "16", "16"]
    for _, ours, theirs, more, _ in rows:
        (value, low, high), (other, *_), (difference, *_) = map(numbers, (ours, theirs, more))
        assert 0 <= low <= value <= high <= 1
        assert difference == pytest.approx(value - other, abs=0.002)
    # The tiny whitening cuts CLS to its first numbers; what is found again hardly changes by that.
    assert numbers(rows[0][1])[0] > 0.3
    tiny_backbone().save_pretrained(tmp_path / "teacher")
    again = run(tmp_path / "teacher")
    assert len(list(work.iterdir())) == 8
    assert [row[1] for row in again] == [row[1] for row in rows]
    assert [row[2] for row in again] != [row[2] for row in rows]
