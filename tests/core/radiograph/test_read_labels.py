"""Masks come back onto the very pixels they were written for, and others are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.files.write_labelmap import write_labelmap
from dino_diffusion.radiograph import Labelmap, Radiograph

from .phantom import chest, dicom, lungs

PIXELS, LABELS = chest(), lungs()


def turned_dicom(path: Path) -> Path:
    """Stored mirrored and upside down, as its orientation says."""
    dicom(path, np.ascontiguousarray(PIXELS[::-1, ::-1]), PatientOrientation=["R", "H"])
    return path


def turned_nifti(path: Path) -> Path:
    """Right to left and foot to head in memory, as NIfTI likes it."""
    affine = np.array([[0.3, 0, 0, 0], [0, 0, 1, 0], [0, 0.2, 0, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(PIXELS[::-1, ::-1].T[..., None], affine), path)
    return path


@pytest.mark.parametrize("ending", ["png", "nii.gz", "nrrd"])
@pytest.mark.parametrize("source", [turned_dicom, turned_nifti])
def test_what_write_labelmap_writes_is_read_back(
    tmp_path: Path, source: Callable[[Path], Path], ending: str
) -> None:
    radiograph = Radiograph.read(source(tmp_path / f"film.{'dcm' if source is turned_dicom else 'nii.gz'}"))
    assert np.array_equal(radiograph.stored, PIXELS)
    written = write_labelmap(Labelmap(LABELS, radiograph), tmp_path / "out", ending)
    assert np.array_equal(read_labels(written, radiograph), LABELS)


def test_a_dicom_segmentation_of_the_image_and_of_another(tmp_path: Path) -> None:
    own, other = (Radiograph.read(turned_dicom(tmp_path / f"{name}.dcm")) for name in "ab")
    written = write_labelmap(Labelmap(LABELS, own), tmp_path / "seg.dcm")
    assert np.array_equal(read_labels(written, own), LABELS)
    with pytest.raises(RadiographError, match="belongs to another image"):
        read_labels(written, other)
    with pytest.raises(RadiographError, match="no DICOM segmentation"):
        read_labels(tmp_path / "b.dcm", own)


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_and_a_full_mask_can_be_read(tmp_path: Path, value: int) -> None:
    radiograph = Radiograph.from_array(PIXELS)
    Image.fromarray(np.full(PIXELS.shape, value, np.uint8)).save(tmp_path / "mask.png")
    assert (read_labels(tmp_path / "mask.png", radiograph) == value).all()


def test_one_bit_a_pixel(tmp_path: Path) -> None:
    Image.fromarray(LABELS == 1).save(tmp_path / "mask.png")
    assert np.array_equal(read_labels(tmp_path / "mask.png", Radiograph.from_array(PIXELS)) > 0, LABELS == 1)


def test_what_is_no_mask_of_it_is_refused(tmp_path: Path) -> None:
    radiograph = Radiograph.from_array(PIXELS, name="film")
    Image.fromarray(LABELS[:-8]).save(tmp_path / "small.png")
    with pytest.raises(RadiographError, match="the mask has 80 x 88 pixels, film 80 x 96"):
        read_labels(tmp_path / "small.png", radiograph)
    Image.fromarray(LABELS * 100).save(tmp_path / "mask.jpg")
    with pytest.raises(RadiographError, match="save it as PNG"):
        read_labels(tmp_path / "mask.jpg", radiograph)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(RadiographError, match="no image"):
        read_labels(tmp_path / "text.png", radiograph)
    with pytest.raises(RadiographError, match="no such file"):
        read_labels(tmp_path / "none.png", radiograph)
