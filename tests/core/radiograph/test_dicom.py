"""DICOM: bits, signs, photometry, windows, spacing, compression."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixel_data_handlers.util import apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSLossless, RLELossless

from dino_diffusion.radiograph import Radiograph

from .phantom import PATIENT_ID, chest, dicom, encapsulated, item

EIGHT, TWELVE = chest(levels=256, dtype="uint8"), chest()


@pytest.mark.parametrize("modality", ["CR", "DX"])
@pytest.mark.parametrize(
    ("pixels", "bits"),
    [(EIGHT, 8), (TWELVE, 12), (chest(levels=65536), 16), (TWELVE.astype(np.int16) - 2048, 12)],
    ids=["8 bit", "12 bit", "16 bit", "12 bit signed"],
)
def test_stored_values_are_exact(tmp_path: Path, modality: str, pixels: np.ndarray, bits: int) -> None:
    dicom(tmp_path / "a.dcm", pixels, bits, Modality=modality)
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    assert radiograph.stored.dtype == pixels.dtype
    assert np.array_equal(radiograph.stored, pixels)
    expected = (pixels - float(pixels.min())) / np.ptp(pixels.astype(float))
    assert np.allclose(radiograph.pixels, expected, atol=1e-6)
    assert radiograph.spacing_mm == (0.2, 0.3)
    assert radiograph.source.dataset.PatientID == PATIENT_ID


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", 4095 - TWELVE, PhotometricInterpretation="MONOCHROME1")
    assert np.allclose(Radiograph.read(tmp_path / "a.dcm").pixels, TWELVE / 4095, atol=1e-6)


def test_detector_spacing_where_there_is_no_other(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", TWELVE, PixelSpacing=None, ImagerPixelSpacing=[0.14, 0.15])
    assert Radiograph.read(tmp_path / "a.dcm").spacing_mm == (0.14, 0.15)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_as_the_standard_says(tmp_path: Path, function: str) -> None:
    """Against pydicom's own windowing of the same file, scaled to [0, 1] (PS3.3 C.11.2)."""
    window = {"RescaleSlope": 2, "RescaleIntercept": -500, "WindowCenter": 3000, "WindowWidth": 2000}
    written = dicom(tmp_path / "a.dcm", TWELVE, VOILUTFunction=function, **window)
    reference = apply_voi_lut(TWELVE * 2.0 - 500, written)
    whole = apply_voi_lut(np.arange(4096) * 2.0 - 500, written)
    expected = (reference - whole.min()) / np.ptp(whole)
    assert np.allclose(Radiograph.read(tmp_path / "a.dcm").pixels, expected, atol=1e-5)


def test_lookup_table(tmp_path: Path) -> None:
    table = np.sqrt(np.arange(4096) / 4095) * 1023
    lut = item(LUTDescriptor=[4096, 0, 16], LUTData=table.astype(np.uint16).tolist())
    lut["LUTDescriptor"].VR = "US"
    lut["LUTData"].VR = "US"
    dicom(tmp_path / "a.dcm", TWELVE, VOILUTSequence=Sequence([lut]))
    assert np.allclose(Radiograph.read(tmp_path / "a.dcm").pixels, np.sqrt(TWELVE / 4095), atol=2e-3)


@pytest.mark.parametrize(
    "window", [{"WindowCenter": 90000, "WindowWidth": 10}, {"WindowCenter": 5, "WindowWidth": 0}]
)
def test_a_window_that_shows_nothing_is_ignored(tmp_path: Path, window: dict[str, int]) -> None:
    dicom(tmp_path / "a.dcm", TWELVE, **window)
    assert np.allclose(Radiograph.read(tmp_path / "a.dcm").pixels, TWELVE / 4095, atol=1e-6)


def test_patient_orientation_turns_the_picture_upright(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", np.ascontiguousarray(TWELVE[:, ::-1]), PatientOrientation=["R", "F"])
    assert np.array_equal(Radiograph.read(tmp_path / "a.dcm").stored, TWELVE)


def test_colour_that_is_really_grey(tmp_path: Path) -> None:
    dicom(
        tmp_path / "a.dcm",
        np.stack([EIGHT] * 3, axis=-1),
        8,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )
    assert np.array_equal(Radiograph.read(tmp_path / "a.dcm").stored, EIGHT)


def test_without_preamble_or_ending(tmp_path: Path) -> None:
    written = dicom(tmp_path / "a.dcm", TWELVE)
    del written.file_meta
    written.preamble = None
    written.is_implicit_VR = True
    pydicom.dcmwrite(tmp_path / "IM0001", written, write_like_original=True)
    assert np.array_equal(Radiograph.read(tmp_path / "IM0001").stored, TWELVE)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize(
    "pixels", [TWELVE, TWELVE.astype(np.int16) - 2048, EIGHT], ids=["unsigned", "signed", "8"]
)
def test_lossless_compression_by_gdcm(tmp_path: Path, compressor: str, pixels: np.ndarray) -> None:
    """JPEG lossless and JPEG 2000, with a rescale that must not reach the stored values."""
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.Execute(SimpleITK.GetImageFromArray(pixels))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "CR", 2, -1024
    dataset.save_as(tmp_path / "a.dcm")
    assert dataset.file_meta.TransferSyntaxUID.is_compressed
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    assert radiograph.stored.dtype == pixels.dtype
    assert np.array_equal(radiograph.stored, pixels)
    assert not radiograph.source.lossy


@pytest.mark.parametrize(("codec", "syntax"), [("JPEG-LS", JPEGLSLossless), ("JPEG2000", JPEG2000Lossless)])
def test_other_encoders(tmp_path: Path, codec: str, syntax: str) -> None:
    pytest.importorskip("pillow_jpls")
    stream = io.BytesIO()
    Image.fromarray(TWELVE).save(stream, codec)
    encapsulated(tmp_path / "a.dcm", TWELVE, stream.getvalue(), syntax)
    assert np.array_equal(Radiograph.read(tmp_path / "a.dcm").stored, TWELVE)


def test_run_length_encoding(tmp_path: Path) -> None:
    written = dicom(tmp_path / "a.dcm", TWELVE)
    written.compress(RLELossless, TWELVE, encoding_plugin="pydicom")
    written.save_as(tmp_path / "a.dcm")
    assert np.array_equal(Radiograph.read(tmp_path / "a.dcm").stored, TWELVE)


@pytest.mark.parametrize("padding", [b"", b"\0\0\0", b"\xff"])
def test_jpeg_baseline_is_lossy(tmp_path: Path, padding: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(EIGHT).save(stream, "JPEG", quality=95)
    encapsulated(tmp_path / "a.dcm", EIGHT, stream.getvalue() + padding, JPEGBaseline8Bit, bits=8)
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    decoded = np.asarray(Image.open(io.BytesIO(stream.getvalue()))).astype(int)
    assert np.abs(radiograph.stored.astype(int) - decoded).max() <= 2
    assert radiograph.source.lossy


def test_jpeg_baseline_in_colour_channels(tmp_path: Path) -> None:
    stream = io.BytesIO()
    colour = np.stack([EIGHT] * 3, axis=-1)
    Image.fromarray(colour).save(stream, "JPEG", quality=95)
    photometry = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
    encapsulated(tmp_path / "a.dcm", colour, stream.getvalue(), JPEGBaseline8Bit, bits=8, **photometry)
    decoded = np.asarray(Image.open(io.BytesIO(stream.getvalue()))).astype(int)[..., 0]
    assert np.abs(Radiograph.read(tmp_path / "a.dcm").stored.astype(int) - decoded).max() <= 3


def test_twelve_bit_lossy_jpeg() -> None:
    """JPEG Extended from pydicom's own test data: the decoder SimpleITK brings reads what pillow cannot."""
    from dino_diffusion.files.decode_dicom import decode

    path = Path(get_testdata_file("JPEG-lossy.dcm"))
    dataset = pydicom.dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    pixels = decode(path, dataset)
    assert pixels.shape == (dataset.Rows, dataset.Columns)
    assert pixels.max() > 255
