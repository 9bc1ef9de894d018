"""Folders, endings and names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.inputs import list_inputs, output_names

from .phantom import chest, dicom


def test_a_folder_stands_for_the_radiographs_in_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.nii.gz", "notes.txt", ".d.png", ".hidden/e.png", "DICOMDIR"):
        (tmp_path / name).touch()
    dicom(tmp_path / "1.2.840.7", chest())
    names = [path.relative_to(tmp_path).as_posix() for path in list_inputs([tmp_path])]
    assert names == ["1.2.840.7", "a.JPG", "b.png", "sub/c.nii.gz"]


def test_results_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("a.png", "out/a.png", "out-2.png"):
        (tmp_path / name).touch()
    named = [tmp_path / "a.png", tmp_path / "out-2.png"]
    assert list_inputs([tmp_path], results=tmp_path / "out") == named
    assert list_inputs([tmp_path], results=tmp_path / "out" / ".." / "out" / "new" / "..") == named
    # Who asks for that very folder, or for a file in it, gets it.
    assert list_inputs([tmp_path / "out"], results=tmp_path / "out") == [tmp_path / "out" / "a.png"]
    assert list_inputs([tmp_path / "out" / "a.png"], results=tmp_path / "out") == [tmp_path / "out" / "a.png"]


def test_a_named_file_always_counts_and_only_once(tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    missing = tmp_path / "gone.xyz"
    assert list_inputs([tmp_path / "a.png", missing, tmp_path]) == [tmp_path / "a.png", missing]


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RadiographError, match="no radiograph"):
        list_inputs([tmp_path])


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["x/a.png", "y/a.png", "a.jpg"], ["a", "a-2", "a-3"]),
        (["a.png", "a-2.png", "b/a.png"], ["a", "a-2", "a-3"]),
        (["a.nii.gz", "a.nii", "a.b.png"], ["a", "a-2", "a.b"]),
        (["1.2.3", "1.2.3.4", "A.png", "a.png"], ["1.2.3", "1.2.3.4", "A", "a-2"]),
        ([".png"], [".png"]),
    ],
)
def test_colliding_stems_get_numbers(files: list[str], names: list[str]) -> None:
    assert output_names([Path(file) for file in files]) == names


def test_importing_the_radiograph_pulls_no_reader() -> None:
    """Training runs where SimpleITK and pydicom are missing."""
    code = (
        "import sys, dino_diffusion.radiograph, dino_diffusion.view;"
        "readers = ('SimpleITK', 'pydicom', 'nibabel', 'highdicom', 'PIL', 'tifffile');"
        "print([name for name in readers if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
