"""`dino-diffusion segment` on folders as people have them: bad files, odd names, an earlier run's results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from tests.core.radiograph.phantom import chest, dicom
from tests.core.radiograph.test_bad_input import cut, png_header
from tests.tiny import smooth_picture

from .conftest import save_picture

Command = Callable

pytestmark = pytest.mark.usefixtures("simple_lungs")

GREY = (smooth_picture(1, 48, 40) * 255).clip(0, 255).astype(np.uint8)


def fill_with_bad_files(folder: Path) -> dict[str, str]:
    """Every kind of bad input that the project promises to survive: file name to a word of its sentence."""
    colour = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
    not_a_number = chest().astype(np.float32)
    not_a_number[3, 3] = np.nan
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no picture\n" * 20)
    (folder / "huge.png").write_bytes(png_header(20_000, 20_000))
    Image.fromarray(GREY).save(folder / "truncated.png")
    cut(folder / "truncated.png", 0.5)
    Image.fromarray(colour).save(folder / "photograph.jpg", quality=95)
    Image.new("L", (1, 1)).save(folder / "pixel.png")
    Image.new("L", (64, 64), 7).save(folder / "constant.png")
    tifffile.imwrite(folder / "nan.tif", not_a_number)
    tifffile.imwrite(folder / "pages.tif", np.stack([GREY] * 3), photometric="minisblack")
    volume = SimpleITK.GetImageFromArray(np.stack([chest()] * 4))
    SimpleITK.WriteImage(volume, str(folder / "volume.nii.gz"))
    dicom(folder / "ct.dcm", chest(), Modality="CT")
    dicom(folder / "frames.dcm", chest(), NumberOfFrames=3)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return {
        "empty.png": "empty",
        "text.png": "no image",
        "huge.png": "at most",
        "truncated.png": "damaged",
        "photograph.jpg": "colour",
        "pixel.png": "1 x 1",
        "constant.png": "every pixel",
        "nan.tif": "NaN",
        "pages.tif": "3 pages",
        "volume.nii.gz": "volume",
        "ct.dcm": "CT",
        "frames.dcm": "3 frames",
    }


def test_a_batch_survives_every_bad_file_and_lists_each_in_one_sentence(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    expected = fill_with_bad_files(radiographs)
    arguments = ("segment", radiographs, radiographs / "gone.png", "-o", tmp_path / "out", "--overlay")
    expected["gone.png"] = "no such file"
    done = command(*arguments, "--bundle", bundle_folder, "--json")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    document = json.loads(done.stdout)
    assert [Path(result["input"]).name for result in document["results"]] == ["a.png", "b.png", "c.png"]
    failed = {Path(entry["input"]).name: entry["error"] for entry in document["failed"]}
    assert failed.keys() == expected.keys()
    *_, heading = (line for line in done.stderr.splitlines() if "could not be labelled" in line)
    listed = done.stderr.splitlines()[done.stderr.splitlines().index(heading) + 1 :]
    assert heading.startswith(f"{len(expected)} of {len(expected) + 3} files")
    assert sorted(listed) == sorted(failed.values())
    for name, word in expected.items():
        problem, remedy = failed[name].split(";", 1)
        assert problem.startswith(f"{radiographs / name}: ") and word in failed[name]
        assert remedy.endswith(".") and ". " not in failed[name].removeprefix(str(radiographs))
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{stem}{end}" for stem in "abc" for end in (".png", "_overlay.png")]


def test_names_with_blanks_umlauts_and_a_leading_dash(
    command: Command, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["-dash.png", "Müller, Anna (2).png", "胸部.png"]
    for number, name in enumerate(names):
        save_picture(tmp_path / name, number)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(GREY[None]), str(tmp_path / "-größe.nrrd"))
    monkeypatch.chdir(tmp_path)
    done = command("segment", "-o", "-aus gabe", "--bundle", bundle_folder, "--", *names, "-größe.nrrd")
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir("-aus gabe")) == sorted([*names, "-größe.png"])
    again = command(
        "segment", "-o", "same", "--format", "same", "--bundle", bundle_folder, "--", "-größe.nrrd"
    )
    assert again.exit_code == 0, again.output
    assert os.listdir("same") == ["-größe.nrrd"]


def test_a_name_that_is_not_utf8_is_refused_not_fatal(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    """ITK ends the process over such a name, with all that was still to be done."""
    name = os.fsdecode(b"M\xfcller.nrrd")
    (radiographs / "z.nrrd").touch()
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(GREY), str(radiographs / "z.nrrd"))
    try:
        (radiographs / "z.nrrd").rename(radiographs / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    done = command("segment", radiographs, "-o", tmp_path / "out", "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert "not UTF-8; rename it." in done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png", "c.png"]
    unwritable = command(
        "segment", radiographs / "a.png", "-o", tmp_path / name, "--format", "nrrd", "--bundle", bundle_folder
    )
    assert unwritable.exit_code == 1
    assert "not UTF-8" in unwritable.stderr


def test_names_as_long_as_the_file_system_allows(
    command: Command, bundle_folder: Path, tmp_path: Path
) -> None:
    longest = save_picture(tmp_path / f"{'x' * 251}.png", 0)
    done = command("segment", longest, "-o", tmp_path / "out", "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    assert os.listdir(tmp_path / "out") == [longest.name]
    for arguments in (["y" * 300, "-o", tmp_path / "out"], [longest, "-o", tmp_path / ("z" * 300)]):
        done = command("segment", *arguments, "--bundle", bundle_folder)
        assert done.exit_code == 1
        assert "name too long" in done.stderr
        assert "Traceback" not in done.output


def test_a_second_run_does_not_label_the_first_ones_results(
    command: Command, radiographs: Path, bundle_folder: Path
) -> None:
    out = radiographs / "labels"
    for _ in range(2):
        done = command("segment", radiographs, "-o", out, "--overlay", "--bundle", bundle_folder)
        assert done.exit_code == 0, done.output
        assert sorted(os.listdir(out)) == [
            f"{stem}{end}" for stem in "abc" for end in (".png", "_overlay.png")
        ]


@pytest.mark.parametrize("size", [(16, 16), (16, 900), (900, 16)])
def test_tiny_wide_and_tall_pictures(
    command: Command, bundle_folder: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.fromarray((smooth_picture(2, *size) * 255).clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    done = command(
        "segment", tmp_path / "a.png", "-o", tmp_path / "out", "--overlay", "--bundle", bundle_folder
    )
    assert done.exit_code == 0, done.output
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).shape == size
