"""`dino-diffusion regions`: a picture of five granularities, labelmaps on the radiograph's own grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from dino_diffusion.codes import FIRST_LEARNT
from tests.core.radiograph.phantom import chest, dicom

Command = Callable


@pytest.fixture
def regions(command: Command, bundle_folder: Path) -> Command:
    """`regions(path, ...)` with the tiny bundle."""
    return lambda *arguments: command("regions", *arguments, "--bundle", bundle_folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_picture_is_written(regions: Command, radiographs: Path, tmp_path: Path) -> None:
    done = regions(radiographs / "a.png", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "out") == ["a_regions.png"]
    picture = np.asarray(Image.open(tmp_path / "out" / "a_regions.png"))
    assert picture.ndim == 3 and picture.shape[1] > 3 * 300
    assert "a_regions.png" in done.stdout and "regions in" in done.stdout


def test_labelmaps_are_nested_and_leave_the_lungs_values_alone(
    regions: Command, radiographs: Path, tmp_path: Path
) -> None:
    done = regions(radiographs / "a.png", "-o", tmp_path / "out", "--labels", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    levels = document["granularities"]
    assert [level["granularity"] for level in levels] == [0, 0.25, 0.5, 0.75, 1]
    assert [Path(level["labelmap"]).name for level in levels] == [
        f"a_regions_{percent}.png" for percent in (0, 25, 50, 75, 100)
    ]
    coarser = None
    for level in levels:
        labels = np.asarray(Image.open(level["labelmap"]))
        assert labels.shape == (48, 40) == tuple(document["shape"])
        assert sorted(np.unique(labels)) == list(range(FIRST_LEARNT, FIRST_LEARNT + level["regions"]))
        if coarser is not None:
            assert len(set(zip(labels.flat, coarser.flat, strict=True))) == level["regions"]
        coarser = labels


def test_dicom_gives_dicom_seg(regions: Command, tmp_path: Path) -> None:
    dicom(tmp_path / "film.dcm", chest())
    done = regions(tmp_path / "film.dcm", "-o", tmp_path / "out", "--labels")
    assert done.exit_code == 0, done.output
    found = pydicom.dcmread(tmp_path / "out" / "film_regions_0.dcm")
    assert found.Modality == "SEG"
    assert [str(segment.SegmentLabel) for segment in found.SegmentSequence][:2] == ["region 1", "region 2"]


def test_bad_input_is_one_sentence(regions: Command, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    done = regions(tmp_path / "text.png", "-o", tmp_path / "out", "--json")
    assert done.exit_code == 1
    assert set(json.loads(done.stdout)) == {"error"}
    assert not (tmp_path / "out").exists()
