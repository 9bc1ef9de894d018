"""What the README shows in Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dino_diffusion.models import bundle as bundles
from tests.core.radiograph.phantom import chest, dicom
from tests.tiny import saved_tiny_bundle


def test_the_python_example_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    assert example
    folder = saved_tiny_bundle(tmp_path / "bundle")
    monkeypatch.setattr(bundles, "default_bundle", lambda: folder)
    monkeypatch.chdir(tmp_path)
    dicom(tmp_path / "scan.dcm", chest())
    names: dict[str, object] = {}
    exec(example[1], names)
    assert (tmp_path / "out" / "scan.nii.gz").is_file()
    assert np.array_equal(names["variant"].pixels, names["same"].pixels)


def test_measured_figures_are_there_and_their_scripts_too(repository: Path) -> None:
    found = []
    for document in sorted((repository / "docs").glob("*.md")):
        text = document.read_text()
        blocks = re.findall(r"<!-- measured: (\S+) -->\n(.*?)<!-- end of measured -->", text, re.DOTALL)
        assert text.count("<!-- measured:") == len(blocks), f"{document.name}: a block without its end"
        for script, figures in blocks:
            assert (repository / script).is_file() and figures.strip(), f"{document.name}: {script}"
        found += blocks
    assert found
