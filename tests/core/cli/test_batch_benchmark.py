"""`benchmarks/batch.py` from end to end, in threads and in processes."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from dino_diffusion.cli import segment_job


@pytest.mark.usefixtures("simple_lungs")
@pytest.mark.parametrize("many", [2, 100])
def test_every_batch_size_labels_every_file(
    repository: Path,
    radiographs: Path,
    bundle_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    many: int,
) -> None:
    (radiographs / "bad.png").write_text("no picture")
    monkeypatch.setattr(segment_job, "MANY", many)
    monkeypatch.syspath_prepend(repository / "benchmarks")
    arguments = [str(radiographs), "--batch", "1", "2", "--bundle", str(bundle_folder), "--json"]
    monkeypatch.setattr(sys, "argv", ["batch.py", *arguments])
    benchmark = importlib.import_module("batch")
    benchmark.main()
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == 4
    assert [row["batch"] for row in report["rows"]] == [1, 2]
    for row in report["rows"]:
        assert row["failed"] == 1
        assert row["files_per_second"] > 0 and 0 < row["models_share"] < 1
    assert len(benchmark.table(report, report["rows"])) == 5
