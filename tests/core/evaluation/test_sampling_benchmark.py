"""`benchmarks/sampling.py` from end to end on a tiny bundle."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.evaluation import drawn
from tests.tiny import saved_tiny_bundle, smooth_picture


@pytest.fixture
def benchmark(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("sampling")


def test_passes_are_counted(benchmark: ModuleType) -> None:
    def passes(text: str) -> int:
        return benchmark.passes(benchmark.setting(text), 1.0)

    assert passes("dpmpp_2m:10:1") == 10
    assert passes("euler:10:2:0:1") == 20
    assert passes("heun:5:2:0:1") == 18, "the last step calls the network once"
    # t = 1, 0.9, ... 0.1: all but the first lie within the interval of guidance.
    assert passes("dpmpp_2m:10:2:0.05:0.95") == 19


def test_a_setting_that_is_none_is_one_sentence(benchmark: ModuleType) -> None:
    for text in ("dpmpp_2m:8", "best:8:2", "euler:eight:2"):
        with pytest.raises(SystemExit, match="write SOLVER:STEPS:GUIDANCE"):
            benchmark.setting(text)


def test_table_is_written_and_nothing_is_drawn_twice(
    benchmark: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(24):
        picture = (smooth_picture(number) * 255).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    with open(tmp_path / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("image", "split"), *((f"{number}.png", "holdout") for number in range(24))]
        )
    document = tmp_path / "page.md"
    document.write_text(f"before\n<!-- measured: {benchmark.SCRIPT} -->\n<!-- end of measured -->\nafter\n")
    bundle = saved_tiny_bundle(tmp_path / "bundle")
    arguments = ["sampling.py", str(tmp_path / "list.csv"), "--work", str(tmp_path / "work")]
    arguments += ["--bundle", str(bundle), "--samples", "12", "--write", str(document)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--settings", "euler:2:1", "dpmpp_2m:3:2"])
    benchmark.main()
    written = document.read_text()
    rows = [line for line in written.splitlines() if line.startswith(("| euler", "| dpmpp_2m"))]
    assert [row.split(" | ")[:2] for row in rows] == [["| euler", "2"], ["| dpmpp_2m", "3"]]
    assert "12 pictures of each setting" in written and "than `dpmpp_2m:3:2`" in written
    assert written.startswith("before\n") and written.endswith("after\n")
    assert rows[0] in capsys.readouterr().out
    monkeypatch.setattr(drawn, "generate", lambda *_, **__: pytest.fail("drawn again"))
    benchmark.main()
    assert document.read_text() == written
