"""Bad input gets one sentence that names the file, the problem and the remedy."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image
from pydicom.uid import MPEG2MPML, JPEG2000Lossless, JPEGBaseline8Bit

from dino_diffusion.errors import RadiographError
from dino_diffusion.radiograph import Radiograph

from .phantom import chest, dicom, encapsulated

EIGHT, TWELVE = chest(levels=256, dtype="uint8"), chest()


def refused(path: Path, *words: str) -> str:
    """Read, expect one sentence with the file's name and the words."""
    with pytest.raises(RadiographError) as caught:
        Radiograph.read(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert message.endswith(".")
    problem, remedy = message.split(";", 1)
    assert problem.startswith(str(path)) and len(remedy.split()) > 1
    assert ". " not in message
    for word in words:
        assert word in message
    return message


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises an image and holds almost none."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64))


def test_missing(tmp_path: Path) -> None:
    refused(tmp_path / "a.png", "no such file", "check")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    refused(tmp_path / "a.png", "empty")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "folder")


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a.nii.gz", "a.mha", "a"])
def test_text_with_the_name_of_an_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("patient seen on Monday\n" * 50)
    refused(tmp_path / name, "no image", "give")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_truncated_pictures(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(EIGHT).save(tmp_path / f"a.{suffix}")
    cut(tmp_path / f"a.{suffix}")
    refused(tmp_path / f"a.{suffix}", "damaged", "again")


def test_truncated_compressed_tiff(tmp_path: Path) -> None:
    Image.fromarray(TWELVE).save(tmp_path / "a.tif", compression="tiff_lzw")
    cut(tmp_path / "a.tif", 0.5)
    refused(tmp_path / "a.tif", "damaged")


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("share", [0.05, 0.6])
def test_truncated_volumes(tmp_path: Path, suffix: str, share: float) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(TWELVE[None]), str(tmp_path / f"a.{suffix}"))
    cut(tmp_path / f"a.{suffix}", share)
    refused(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("share", [0.03, 0.06, 0.5, 0.97])
def test_truncated_dicom(tmp_path: Path, share: float) -> None:
    dicom(tmp_path / "a.dcm", TWELVE)
    cut(tmp_path / "a.dcm", share)
    refused(tmp_path / "a.dcm", "again")


@pytest.mark.parametrize(("codec", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_truncated_compressed_dicom(tmp_path: Path, codec: str, syntax: str, share: float) -> None:
    stream = io.BytesIO()
    Image.fromarray(EIGHT).save(stream, codec)
    encapsulated(tmp_path / "a.dcm", EIGHT, stream.getvalue(), syntax, bits=8)
    cut(tmp_path / "a.dcm", share)
    refused(tmp_path / "a.dcm", "again")


def test_a_compressed_frame_that_breaks_off_inside_a_whole_file(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(EIGHT).save(stream, "JPEG")
    half = stream.getvalue()[: len(stream.getvalue()) // 2]
    encapsulated(tmp_path / "a.dcm", EIGHT, half, JPEGBaseline8Bit, bits=8)
    refused(tmp_path / "a.dcm", "damaged")


def test_dicom_without_pixels(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", None)
    refused(tmp_path / "a.dcm", "no pixel data")
    dicom(tmp_path / "a.dcm", TWELVE, PixelData=None)
    refused(tmp_path / "a.dcm", "no pixel data")


def test_dicom_without_its_bits(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", TWELVE, BitsStored=None)
    refused(tmp_path / "a.dcm", "damaged")


@pytest.mark.parametrize("modality", ["CT", "MR", "US"])
def test_another_modality(tmp_path: Path, modality: str) -> None:
    dicom(tmp_path / "a.dcm", TWELVE, Modality=modality)
    refused(tmp_path / "a.dcm", modality, "CR or DX")


def test_several_frames(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", TWELVE, NumberOfFrames=3)
    refused(tmp_path / "a.dcm", "3 frames")
    pages = [Image.fromarray(EIGHT)] * 2
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    refused(tmp_path / "a.tif", "2 pages")


@pytest.mark.parametrize("syntax", [MPEG2MPML, "1.2.840.10008.1.2.4.201"], ids=["MPEG-2", "HTJ2K"])
def test_a_compression_no_decoder_knows(tmp_path: Path, syntax: str) -> None:
    """pydicom 2 cannot write what it does not know, so the identifier is exchanged in the file."""
    encapsulated(tmp_path / "a.dcm", EIGHT, b"\0" * 400, MPEG2MPML, bits=8)
    whole = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole.replace(MPEG2MPML.encode(), syntax.encode()))
    refused(tmp_path / "a.dcm", "no decoder", "install pylibjpeg", "decompress")


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_a_volume(tmp_path: Path, suffix: str) -> None:
    volume = SimpleITK.GetImageFromArray(np.stack([TWELVE] * 4))
    SimpleITK.WriteImage(volume, str(tmp_path / f"ct.{suffix}"))
    refused(tmp_path / f"ct.{suffix}", "volume", "80 x 96 x 4", "one slice")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "nrrd"])
def test_a_colour_photograph(tmp_path: Path, suffix: str) -> None:
    colour = np.stack([EIGHT, EIGHT // 2, 255 - EIGHT], axis=-1)
    path = tmp_path / f"a.{suffix}"
    if suffix == "nrrd":
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(colour, isVector=True), str(path))
    else:
        Image.fromarray(colour).save(path)
    refused(path, "in colour")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "nrrd", "nii.gz", "dcm"])
def test_one_pixel(tmp_path: Path, suffix: str) -> None:
    path, pixel = tmp_path / f"a.{suffix}", np.full((1, 1), 7, np.uint8)
    if suffix == "dcm":
        dicom(path, pixel, 8)
    elif suffix in ("nrrd", "nii.gz"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixel), str(path))
    else:
        Image.fromarray(pixel).save(path)
    refused(path, "1 x 1", "at least 16")


def huge_tiff(path: Path) -> None:
    tifffile.memmap(path, shape=(20_000, 20_000), dtype="uint8").flush()


def huge_dicom(path: Path) -> None:
    dicom(path, TWELVE, Rows=20_000, Columns=20_000)


def huge_nrrd(path: Path) -> None:
    path.write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 20000 20000\nencoding: raw\n\n" + b"\0" * 99
    )


def huge_nifti(path: Path) -> None:
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 2, 20_000, 20_000, 1, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    path.write_bytes(gzip.compress(bytes(header) + b"\0" * 99))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.png", lambda path: path.write_bytes(png_header(20_000, 20_000))),
        ("b.png", lambda path: path.write_bytes(png_header(12_000, 12_000))),
        ("c.png", lambda path: path.write_bytes(png_header(20_000, 100))),
        ("a.dcm", huge_dicom),
        ("a.nrrd", huge_nrrd),
        ("a.nii.gz", huge_nifti),
        ("a.tif", huge_tiff),
    ],
)
def test_twenty_thousand_pixels_are_refused_before_decoding(
    tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    """The files hold next to no pixels, so an attempt to decode them would fail otherwise."""
    make(tmp_path / name)
    refused(tmp_path / name, "at most 12000")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", ["tif", "nrrd", "nii.gz"])
def test_not_a_number(tmp_path: Path, suffix: str, value: float) -> None:
    pixels = TWELVE.astype(np.float32)
    pixels[40, 40] = value
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "a.tif", pixels)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels), str(tmp_path / f"a.{suffix}"))
    refused(tmp_path / f"a.{suffix}", "NaN")


@pytest.mark.parametrize("suffix", ["png", "tif", "nrrd", "nii.gz", "dcm"])
def test_constant(tmp_path: Path, suffix: str) -> None:
    path, pixels = tmp_path / f"a.{suffix}", np.full((64, 64), 700, np.uint16)
    if suffix == "dcm":
        dicom(path, pixels)
    elif suffix in ("nrrd", "nii.gz"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels), str(path))
    else:
        Image.fromarray(pixels).save(path)
    refused(path, "every pixel has the value 700")


def test_garbage_in_every_place_of_a_dicom_file(tmp_path: Path) -> None:
    """Random bytes anywhere: an answer or one sentence, never another exception."""
    dicom(tmp_path / "a.dcm", TWELVE, WindowCenter=2000, WindowWidth=3000)
    whole = (tmp_path / "a.dcm").read_bytes()
    generator = np.random.default_rng(0)
    header = len(whole) - TWELVE.nbytes
    for _ in range(60):
        broken = bytearray(whole)
        for place in generator.integers(132, header, 4):
            broken[place] = int(generator.integers(0, 256))
        (tmp_path / "b.dcm").write_bytes(broken)
        try:
            Radiograph.read(tmp_path / "b.dcm")
        except RadiographError as error:
            assert "b.dcm" in str(error)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "nii.gz", "nrrd", "mha"])
def test_garbage_in_the_head_of_other_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix in ("png", "tif", "jpg"):
        Image.fromarray(EIGHT).save(path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(TWELVE), str(path))
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(whole)
        for place in generator.integers(4, 400, 3):
            broken[place] = int(generator.integers(0, 256))
        path.write_bytes(broken)
        try:
            Radiograph.read(path)
        except RadiographError as error:
            assert path.name in str(error)


def test_the_pixels_of_pydicom_stay_out_of_the_dataset(tmp_path: Path) -> None:
    """A batch keeps one copy of the pixels, not two."""
    dicom(tmp_path / "a.dcm", TWELVE)
    dataset = Radiograph.read(tmp_path / "a.dcm").source.dataset
    assert isinstance(dataset, pydicom.Dataset)
    assert "PixelData" not in dataset
