"""`dino-diffusion segment`: names, formats, a batch with a bad file, what is printed."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pydicom
import pytest
from PIL import Image

from dino_diffusion.cli import segment_job
from dino_diffusion.cli.segment_desk import named
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.save import save_image
from dino_diffusion.generation.variants import Synthetic
from tests.tiny import smooth_picture

Command = Callable

pytestmark = pytest.mark.usefixtures("simple_lungs")


@pytest.fixture
def dicom_file(tmp_path: Path) -> Path:
    made = Synthetic(smooth_picture(4), Recipe("test", "none", {}))
    return save_image(made, tmp_path / "dicom" / "film.dcm")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gives_a_labelmap_an_image_on_its_own_grid(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    done = command("segment", radiographs, "-o", tmp_path / "out", "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    labels = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert labels.shape == (48, 40)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert labels[0, 0] == 1  # the patient's right lung is on the left


@pytest.mark.parametrize(
    ("chosen", "expected"), [("png", "a.png"), ("nii.gz", "a.nii.gz"), ("nrrd", "a.nrrd"), ("same", "a.png")]
)
def test_formats(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, chosen: str, expected: str
) -> None:
    done = command(
        "segment",
        radiographs / "a.png",
        "-o",
        tmp_path / "out",
        "--bundle",
        bundle_folder,
        "--format",
        chosen,
    )
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "out") == [expected]


def test_dicom_gives_dicom_seg(
    command: Command, dicom_file: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    done = command("segment", dicom_file, "-o", tmp_path / "out", "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    found = pydicom.dcmread(tmp_path / "out" / "film.dcm")
    assert found.Modality == "SEG"
    assert "cm²" in done.stdout  # its pixel spacing is known


def test_inputs_of_one_name_are_numbered(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    second = shutil.copytree(radiographs, tmp_path / "second")
    done = command(
        "segment", radiographs, second, "-o", tmp_path / "out", "--bundle", bundle_folder, "--overlay"
    )
    assert done.exit_code == 0, done.output
    assert {"a.png", "a-2.png", "a_overlay.png", "a-2_overlay.png"} <= set(names(tmp_path / "out"))
    assert len(names(tmp_path / "out")) == 12


def test_an_overlay_never_takes_the_name_of_a_labelmap() -> None:
    files = named([Path("a.png"), Path("A_overlay.png")])
    assert [file.name for file in files] == ["a", "A_overlay"]
    assert [file.overlay_name for file in files] == ["a_overlay-2", "A_overlay_overlay"]


def test_a_batch_goes_on_past_a_bad_file_and_lists_it(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    (radiographs / "b.png").write_text("this is no picture")
    done = command("segment", radiographs, "-o", tmp_path / "out", "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert names(tmp_path / "out") == ["a.png", "c.png"]
    assert "1 of 3 files could not be labelled" in done.stderr
    assert "b.png" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.output


def test_an_unforeseen_error_ends_one_file_not_the_batch(
    command: Command,
    radiographs: Path,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simple_lungs: ModuleType,
) -> None:
    honest, calls = simple_lungs.find_lungs, itertools.count()

    def fails_once(*args: object) -> object:
        if next(calls) == 0:
            raise RuntimeError("shape mismatch\nin some layer")
        return honest(*args)

    monkeypatch.setattr(simple_lungs, "find_lungs", fails_once)
    done = command("segment", radiographs, "-o", tmp_path / "out", "--bundle", bundle_folder, "--batch", 1)
    assert done.exit_code == 1
    assert names(tmp_path / "out") == ["b.png", "c.png"]
    assert "RuntimeError: shape mismatch in some layer" in done.stderr


def test_ctrl_c_says_a_sentence_and_keeps_what_is_done(
    command: Command,
    radiographs: Path,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simple_lungs: ModuleType,
) -> None:
    honest, calls = simple_lungs.find_lungs, itertools.count()

    def interrupted(*args: object) -> object:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return honest(*args)

    monkeypatch.setattr(simple_lungs, "find_lungs", interrupted)
    done = command("segment", radiographs, "-o", tmp_path / "out", "--bundle", bundle_folder, "--batch", 1)
    assert done.exit_code == 130
    assert names(tmp_path / "out") == ["a.png"]
    assert "Stopped" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("many", [2, 100])
def test_files_at_once_give_what_they_give_one_by_one_past_a_bad_one(
    command: Command,
    radiographs: Path,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    many: int,
) -> None:
    """In processes, if there are many, and in threads."""
    monkeypatch.setattr(segment_job, "MANY", many)
    (radiographs / "bb.png").write_text("no picture")
    told = []
    for batch in (1, 3):
        out = tmp_path / f"out{batch}"
        done = command(
            "segment", radiographs, "-o", out, "--bundle", bundle_folder, "--batch", batch, "--json"
        )
        assert done.exit_code == 1 and names(out) == ["a.png", "b.png", "c.png"]
        document = json.loads(done.stdout)
        assert [Path(entry["input"]).name for entry in document["results"]] == ["a.png", "b.png", "c.png"]
        assert [Path(entry["input"]).name for entry in document["failed"]] == ["bb.png"]
        told.append([entry["lungs"] for entry in document["results"]])
    assert told[0] == told[1]


def test_files_that_models_refuse_together_are_labelled_one_by_one(
    command: Command,
    radiographs: Path,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simple_lungs: ModuleType,
) -> None:
    honest = simple_lungs.find_lungs

    def crowded(bundle: object, views: list, negative: object) -> object:
        if len(views) > 1:
            raise RuntimeError("CUDA out of memory")
        return honest(bundle, views, negative)

    monkeypatch.setattr(simple_lungs, "find_lungs", crowded)
    done = command("segment", radiographs, "-o", tmp_path / "out", "--bundle", bundle_folder, "--batch", 3)
    assert done.exit_code == 0, done.output
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]


def test_an_input_is_never_replaced_by_its_labelmap(
    command: Command, radiographs: Path, bundle_folder: Path
) -> None:
    before = (radiographs / "a.png").read_bytes()
    done = command("segment", radiographs / "a.png", "-o", radiographs, "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert "would replace an input" in done.stderr
    assert (radiographs / "a.png").read_bytes() == before


def test_json_is_one_document_with_everything(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    (radiographs / "b.png").write_bytes(b"")
    done = command(
        "segment",
        radiographs,
        "-o",
        tmp_path / "out",
        "--bundle",
        bundle_folder,
        "--json",
        "--bench",
        "--overlay",
    )
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert [Path(result["labelmap"]).name for result in document["results"]] == ["a.png", "c.png"]
    result = document["results"][0]
    assert result["lungs"]["right"] == {"pixels": 480, "share": 0.25, "cm2": None}
    assert result["uncertainty"] == 0.25
    assert result["warnings"] == ["The two lungs differ much in size."]
    assert Path(result["overlay"]).is_file()
    assert result["bench"]["warm"].keys() == {"read", "segment", "write"}
    assert [Path(entry["input"]).name for entry in document["failed"]] == ["b.png"]


def test_json_of_a_failed_start_is_a_document_too(
    command: Command, radiographs: Path, tmp_path: Path
) -> None:
    done = command("segment", radiographs, "-o", tmp_path / "out", "--bundle", tmp_path, "--json")
    assert done.exit_code == 1
    assert "no model bundle" in json.loads(done.stdout)["error"]
    assert "no model bundle" in done.stderr


def test_what_a_person_reads(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    arguments = ("segment", radiographs / "a.png", "-o", tmp_path / "out", "--bundle", bundle_folder)
    said = command(*arguments, "--bench").stdout
    assert "right lung 25.0%, left lung 50.0% of the picture; uncertainty 0.25" in said
    assert "warning: The two lungs differ much in size." in said
    assert "warm: read" in said
    assert command(*arguments, "--quiet").output == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.png", "-o", "out"], 1, "missing.png"),
        (["empty", "-o", "out"], 1, "empty"),
        (["in/a.png"], 2, "--output"),
        (["-o", "out"], 2, "INPUT"),
        (["in/a.png", "-o", "out", "--format", "bmp"], 2, "bmp"),
        (["in/a.png", "-o", "in/a.png"], 1, "writable"),
        (["in/a.png", "-o", "out", "--device", "gpu7"], 1, "gpu7"),
        (["in/a.png", "-o", "out", "--format", "dcmseg"], 1, "needs a DICOM radiograph"),
    ],
)
def test_bad_calls_say_why_and_leave_nothing(
    command: Command,
    radiographs: Path,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = command("segment", *arguments, "--bundle", bundle_folder)
    assert done.exit_code == code
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_zones_take_the_place_of_lungs(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    done = command(
        "segment",
        radiographs / "a.png",
        "-o",
        tmp_path / "out",
        "--zones",
        "--json",
        "--bundle",
        bundle_folder,
    )
    assert done.exit_code == 0, done.output
    entry = json.loads(done.stdout)["results"][0]
    labels = np.asarray(Image.open(entry["labelmap"]))
    assert labels[:, 0].tolist() == [3] * 16 + [4] * 16 + [5] * 16
    assert labels[[0, 20, 47], -1].tolist() == [6, 7, 8]
    assert entry["lungs"]["right"]["share"] == 0.25
    assert [area["name"] for area in entry["segments"]][:2] == ["right upper zone", "right middle zone"]


def test_zones_of_a_learnt_structure_make_no_sense(
    command: Command, radiographs: Path, tmp_path: Path
) -> None:
    done = command("segment", radiographs, "-o", tmp_path, "--zones", "--embedding", tmp_path / "heart")
    assert done.exit_code == 1 and "leave it out" in done.stderr
