"""Every format reads onto the same upright picture, with its exact stored values."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from dino_diffusion.errors import RadiographError
from dino_diffusion.radiograph import Radiograph

from .phantom import chest

EIGHT, TWELVE = chest(levels=256, dtype="uint8"), chest()
REAL = Path(__file__).resolve().parents[4] / "shared/data/cxr/original/nih14"


@pytest.mark.parametrize("pixels", [EIGHT, TWELVE], ids=["8 bit", "16 bit"])
def test_png_keeps_its_stored_values(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    radiograph = Radiograph.read(tmp_path / "a.png")
    assert radiograph.stored.dtype == pixels.dtype
    assert np.array_equal(radiograph.stored, pixels)
    assert radiograph.pixels.dtype == np.float32
    assert (radiograph.pixels.min(), radiograph.pixels.max()) == (0, 1)
    assert radiograph.spacing_mm is None
    assert len(radiograph.source.sha256) == 64
    assert not radiograph.source.lossy


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_pictures_read_close_and_say_so(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(EIGHT).save(tmp_path / f"a.{suffix}", quality=95)
    radiograph = Radiograph.read(tmp_path / f"a.{suffix}")
    assert radiograph.source.lossy
    assert np.abs(radiograph.stored.astype(int) - EIGHT).mean() < 4


def test_lossless_webp_is_not_lossy(tmp_path: Path) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "a.webp", lossless=True)
    radiograph = Radiograph.read(tmp_path / "a.webp")
    assert np.array_equal(radiograph.stored, EIGHT)
    assert not radiograph.source.lossy


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_colour_channels_is_grey(tmp_path: Path, mode: str) -> None:
    Image.fromarray(EIGHT).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(Radiograph.read(tmp_path / "a.png").stored, EIGHT)


def test_sixteen_bits_a_channel_are_not_cut_to_eight(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.stack([TWELVE] * 3, axis=-1), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "a.png"))
    assert np.array_equal(Radiograph.read(tmp_path / "a.png").stored, TWELVE)


def test_a_coloured_letter_does_not_make_a_colour_photograph(tmp_path: Path) -> None:
    picture = np.stack([EIGHT] * 3, axis=-1)
    picture[4:8, 60:66] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "a.png")
    stored = Radiograph.read(tmp_path / "a.png").stored
    assert np.array_equal(stored[20:], EIGHT[20:])


def test_jpeg_orientation_tag_is_obeyed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(EIGHT)).save(tmp_path / "a.jpg", quality=100, exif=exif)
    radiograph = Radiograph.read(tmp_path / "a.jpg")
    assert radiograph.shape == EIGHT.shape
    assert np.abs(radiograph.stored.astype(int) - EIGHT).max() < 12


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiff_dtypes(tmp_path: Path, dtype: str) -> None:
    pixels = EIGHT.astype(dtype) - (100 if dtype == "int16" else 0)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    assert np.array_equal(Radiograph.read(tmp_path / "a.tif").stored, pixels)
    assert Radiograph.read(tmp_path / "a.tif").stored.dtype == np.dtype(dtype)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_compressions(tmp_path: Path, compression: str) -> None:
    Image.fromarray(TWELVE).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(Radiograph.read(tmp_path / "a.tif").stored, TWELVE)


def test_tiff_where_white_is_zero_is_shown_bright_as_dense(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", 4095 - TWELVE, photometric="miniswhite")
    radiograph = Radiograph.read(tmp_path / "a.tif")
    assert np.allclose(radiograph.pixels, TWELVE / 4095, atol=1e-6)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("slices", [False, True], ids=["2D", "3D with one slice"])
def test_volumes_read_in_storage_order_with_spacing(tmp_path: Path, suffix: str, slices: bool) -> None:
    image = SimpleITK.GetImageFromArray(TWELVE[None] if slices else TWELVE)
    image.SetSpacing((0.3, 0.2, 1.0) if slices else (0.3, 0.2))
    SimpleITK.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    radiograph = Radiograph.read(tmp_path / f"a.{suffix}")
    assert np.array_equal(radiograph.stored, TWELVE)
    assert radiograph.spacing_mm == pytest.approx((0.2, 0.3))
    assert radiograph.source.name == "a"


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd"])
def test_a_coronal_slice_is_turned_upright(tmp_path: Path, suffix: str) -> None:
    """Columns to the patient's right, rows to the head: both must be flipped."""
    image = SimpleITK.GetImageFromArray(TWELVE[::-1, ::-1][None])
    image.SetDirection((-1, 0, 0, 0, 0, 1, 0, 1, 0))
    SimpleITK.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    assert np.array_equal(Radiograph.read(tmp_path / f"a.{suffix}").stored, TWELVE)


def test_a_coronal_slice_along_the_second_axis_is_turned_upright(tmp_path: Path) -> None:
    """A volume of one coronal slice, indexed right-left, front-back, foot-head."""
    data = TWELVE[::-1].T[:, None, :]
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-0.3, 1.0, 0.2, 1.0])), tmp_path / "a.nii.gz")
    radiograph = Radiograph.read(tmp_path / "a.nii.gz")
    assert np.array_equal(radiograph.stored, TWELVE)
    assert radiograph.spacing_mm == pytest.approx((0.2, 0.3))


def test_nifti_scaling_does_not_change_the_stored_integers(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(TWELVE.T, np.eye(4))
    image.header.set_slope_inter(0.5, -7)
    nibabel.save(image, tmp_path / "a.nii")
    assert np.array_equal(Radiograph.read(tmp_path / "a.nii").stored, TWELVE)


def test_content_decides_where_the_name_lies(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(EIGHT).save(buffer, "PNG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    radiograph = Radiograph.read(tmp_path / "a.jpg")
    assert radiograph.source.format == "png"
    assert not radiograph.source.lossy


def test_from_array_keeps_the_grey_of_unit_floats() -> None:
    pixels = (EIGHT / 510).astype(np.float32)
    assert np.array_equal(Radiograph.from_array(pixels, (0.1, 0.2)).pixels, pixels)


def test_from_array_refuses_three_axes() -> None:
    with pytest.raises(RadiographError, match="3 axes"):
        Radiograph.from_array(np.zeros((32, 32, 3)))


def test_real_radiographs_read() -> None:
    files = sorted(REAL.glob("*.png"))
    if not files:
        pytest.skip("no real radiographs beside the repository (shared/data/cxr/original/nih14)")
    for file in files[:3]:
        radiograph = Radiograph.read(file)
        assert radiograph.model_view(256).pixels.shape == (1, 1, 256, 256)
