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
