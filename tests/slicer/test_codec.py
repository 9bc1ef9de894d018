"""The image files made and read in memory, against readers that others wrote."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import nrrd as pynrrd
import numpy as np
import pytest
import SimpleITK as sitk
from DiNODiffusionLib.codec import files, nifti, nrrd, png
from DiNODiffusionLib.codec.geometry import Image, NotAnImage

from tests.slicer.fake_server import finish

USUAL = np.diag([-0.143, -0.143, 1.0, 1.0])
SWAPPED = np.array([[0, -0.143, 0, 12.5], [-0.143, 0, 0, -7.25], [0, 0, 1, 3], [0, 0, 0, 1.0]])
TILTED = np.array([[-0.2, 0.05, 0, 1], [-0.05, -0.2, 0, 2], [0, 0, 1.5, 3], [0, 0, 0, 1.0]])
MATRICES = {"usual": USUAL, "left-handed": SWAPPED, "tilted": TILTED}
KINDS = ("uint8", "int16", "uint16", "int32", "float32", "float64")


def picture(kind: str = "uint16", shape: tuple[int, int, int] = (1, 7, 5)) -> np.ndarray:
    return (np.random.default_rng(3).random(shape) * 200).astype(kind)


def itk_matrix(read: sitk.Image) -> np.ndarray:
    """IJK-to-RAS of what ITK read."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(read.GetDirection()).reshape(3, 3) * read.GetSpacing()
    matrix[:3, 3] = read.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


@pytest.mark.parametrize("codec", [nifti, nrrd], ids=["nifti", "nrrd"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_itk_and_we_read_back_what_was_written(codec, kind: str, matrix: np.ndarray, tmp_path: Path) -> None:
    image = Image(picture(kind, (3, 7, 5)), matrix)
    data = finish(codec.encode(image))
    file = tmp_path / ("image.nrrd" if codec is nrrd else "image.nii.gz")
    file.write_bytes(data)
    read = sitk.ReadImage(str(file))
    assert np.array_equal(sitk.GetArrayFromImage(read), image.array)
    np.testing.assert_allclose(itk_matrix(read), matrix, atol=2e-6)
    back = files.decode(data)
    assert back.array.dtype == image.array.dtype and np.array_equal(back.array, image.array)
    if codec is nrrd:
        assert np.array_equal(back.ijk_to_ras, matrix), "NRRD keeps every digit"
    else:
        np.testing.assert_allclose(back.ijk_to_ras, matrix, rtol=1e-6)


@pytest.mark.parametrize("matrix", [USUAL, TILTED, np.diag([0.3, 0.3, 1.0, 1.0])])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
def test_what_itk_wrote_is_read(matrix: np.ndarray, suffix: str, tmp_path: Path) -> None:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    written = sitk.GetImageFromArray(picture())
    written.SetSpacing(spacing.tolist())
    written.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    written.SetOrigin(lps[:3, 3].tolist())
    file = tmp_path / f"image{suffix}"
    sitk.WriteImage(written, str(file))
    back = files.decode(file.read_bytes())
    assert np.array_equal(back.array, picture())
    np.testing.assert_allclose(back.ijk_to_ras, matrix, atol=1e-5)


def test_two_dimensions_big_endian_and_scaling(tmp_path: Path) -> None:
    flat = picture()[0]
    pynrrd.write(
        str(tmp_path / "flat.nrrd"), flat.T.astype(">u2"), {"encoding": "raw", "spacings": [0.2, 0.3]}
    )
    back = files.decode((tmp_path / "flat.nrrd").read_bytes())
    assert back.array.shape == (1, 7, 5) and np.array_equal(back.array[0], flat)
    np.testing.assert_allclose(np.abs(np.diag(back.ijk_to_ras)), [0.2, 0.3, 1, 1])
    scaled = nibabel.Nifti1Image(picture("int16").T, USUAL)
    scaled.header.set_slope_inter(2.0, 1.0)
    nibabel.save(scaled, tmp_path / "scaled.nii")
    read = files.decode((tmp_path / "scaled.nii").read_bytes()).array
    np.testing.assert_allclose(read, np.asarray(nibabel.load(tmp_path / "scaled.nii").dataobj).T)


def test_only_a_qform(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(picture("int16").T, None)
    made.set_qform(TILTED, code=1)
    made.set_sform(None, code=0)
    nibabel.save(made, tmp_path / "q.nii.gz")
    np.testing.assert_allclose(
        files.decode((tmp_path / "q.nii.gz").read_bytes()).ijk_to_ras, TILTED, atol=1e-5
    )


@pytest.mark.parametrize("codec", [nifti, nrrd], ids=["nifti", "nrrd"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused(codec, share: float) -> None:
    data = finish(codec.encode(Image(picture(shape=(1, 60, 50)), USUAL)))
    with pytest.raises(NotAnImage):
        files.decode(data[: int(len(data) * share)])


def test_a_small_file_that_claims_to_be_huge_is_refused() -> None:
    head = "NRRD0004\ntype: double\ndimension: 3\nsizes: 60000 60000 60\nencoding: gzip\nendian: little\n\n"
    with pytest.raises(NotAnImage, match="60000"):
        files.decode(head.encode() + gzip.compress(b"x"))
    bomb = head.replace("60000 60000 60", "2 2 1").encode() + gzip.compress(b"\0" * 10_000_000)
    with pytest.raises(NotAnImage, match="more data"):
        files.decode(bomb)


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"NRRD0004\n\n", b"NRRD0004\ntype: x\n\nabc", b"\x1f\x8bxx"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        files.decode(data)


def test_a_detached_nrrd_reads_no_other_file() -> None:
    with pytest.raises(NotAnImage, match="another file"):
        files.decode(
            b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 1 1\nencoding: raw\ndata file: /etc/passwd\n\n"
        )


def test_packing_a_large_image_lets_the_window_breathe() -> None:
    steps = nrrd.encode(Image(picture("uint16", (1, 2000, 2000)), USUAL))
    assert sum(1 for _ in steps) >= 7, "8 MB in pieces of 1 MB"


@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 3)])
def test_png(shape: tuple[int, ...], tmp_path: Path) -> None:
    made = (np.random.default_rng(0).random(shape) * 255).astype(np.uint8)
    (tmp_path / "x.png").write_bytes(png.encode(made))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "x.png"))), made)


def test_same_grid() -> None:
    image = Image(picture(), USUAL)
    near, far = USUAL.copy(), USUAL.copy()
    near[0, 3] += 1e-5
    far[0, 3] += 0.1
    assert image.same_grid(Image(picture(), near)) and not image.same_grid(Image(picture(), far))
    assert not image.same_grid(Image(picture(shape=(1, 5, 7)), USUAL))
