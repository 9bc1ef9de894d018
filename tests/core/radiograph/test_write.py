"""Results land exactly on the source's grid, whole or not at all, and say what they are."""

from __future__ import annotations

from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.write_array import write_png
from dino_diffusion.files.write_image import write_image
from dino_diffusion.files.write_labelmap import write_labelmap
from dino_diffusion.radiograph import Labelmap, Radiograph

from .phantom import PATIENT, PATIENT_ID, chest, dicom, lungs

EIGHT, TWELVE, LABELS = chest(levels=256, dtype="uint8"), chest(), lungs()
MARK = {"method": "inpaint", "seed": 7, "strength": 0.5, "inputs": ["ab" * 32]}


def source_file(folder: Path, kind: str) -> Path:
    """A radiograph of the drawn chest in the format that the ending names."""
    path = folder / f"film.{kind}"
    if kind == "dcm":
        dicom(path, TWELVE, RescaleSlope=1, RescaleIntercept=0, WindowCenter=2048, WindowWidth=3000)
    elif kind in ("png", "jpg", "webp"):
        Image.fromarray(TWELVE if kind == "png" else EIGHT).save(path)
    elif kind == "tif":
        tifffile.imwrite(path, TWELVE)
    else:
        image = SimpleITK.GetImageFromArray(TWELVE[None])
        image.SetSpacing((0.3, 0.2, 5.0))
        image.SetOrigin((-11.5, 22.25, 3.0))
        image.SetDirection((1, 0, 0, 0, 0, 1, 0, -1, 0))
        SimpleITK.WriteImage(image, str(path))
    return path


def labelled(path: Path, labels: np.ndarray = LABELS) -> Labelmap:
    return Labelmap(labels, Radiograph.read(path))


@pytest.mark.parametrize("kind", ["dcm", "png", "jpg", "webp", "tif", "nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("chosen", ["png", "nii.gz", "nrrd", "same"])
def test_labels_come_back_exactly(tmp_path: Path, kind: str, chosen: str) -> None:
    labelmap = labelled(source_file(tmp_path, kind))
    path = write_labelmap(labelmap, tmp_path / "out", chosen)
    same = {"dcm": "dcm", "tif": "tif", "nii": "nii.gz", "nii.gz": "nii.gz", "nrrd": "nrrd", "mha": "mha"}
    assert path.name == f"film.{same.get(kind, 'png') if chosen == 'same' else chosen}"
    if path.suffix == ".dcm":
        assert np.array_equal(pydicom.dcmread(path).pixel_array, [LABELS == 1, LABELS == 2])
        return
    back = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    grid = labelmap.radiograph.source.grid
    expected = grid.stored_plane(LABELS) if path.suffix in (".png", ".tif") else grid.stored(LABELS)
    assert back.dtype == np.uint8
    assert np.array_equal(back.squeeze(), expected.squeeze())


@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("chosen", ["nii.gz", "nrrd", "same"])
def test_labels_lie_where_the_slice_lies(tmp_path: Path, kind: str, chosen: str) -> None:
    file = source_file(tmp_path, kind)
    source = SimpleITK.ReadImage(str(file))
    back = SimpleITK.ReadImage(str(write_labelmap(labelled(file), tmp_path / "out", chosen)))
    assert back.GetSize() == source.GetSize()
    assert np.allclose(back.GetSpacing(), source.GetSpacing(), atol=1e-6)
    assert np.allclose(back.GetOrigin(), source.GetOrigin(), atol=1e-5)
    assert np.allclose(back.GetDirection(), source.GetDirection(), atol=1e-6)


def test_nifti_labels_keep_both_transforms_and_their_codes(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(TWELVE.T[..., None], None)
    image.set_qform(np.diag([-0.3, -0.2, 4.0, 1.0]), code=1)
    sheared = np.array([[-0.3, 0.01, 0, 5], [0, -0.2, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    image.set_sform(sheared, code=2)
    image.header.set_slope_inter(2.0, -1024)
    nibabel.save(image, tmp_path / "film.nii.gz")
    back = nibabel.load(write_labelmap(labelled(tmp_path / "film.nii.gz"), tmp_path / "out", "nii.gz"))
    for transform in ("qform", "sform"):
        own, expected = (getattr(i.header, f"get_{transform}")(coded=True) for i in (back, image))
        assert np.allclose(own[0], expected[0], atol=1e-6)
        assert own[1] == expected[1]
    assert back.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(back.dataobj)[..., 0].T, LABELS)


def test_a_turned_source_gets_its_labels_turned_back(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", np.ascontiguousarray(TWELVE[:, ::-1]), PatientOrientation=["R", "F"])
    path = write_labelmap(labelled(tmp_path / "a.dcm"), tmp_path / "out.png", "png")
    assert np.array_equal(np.asarray(Image.open(path)), LABELS[:, ::-1])


def test_dicom_segmentation(tmp_path: Path) -> None:
    file = source_file(tmp_path, "dcm")
    path = write_labelmap(labelled(file), tmp_path / "out")
    segmentation, source = highdicom.seg.segread(path), pydicom.dcmread(file)
    pixels = segmentation.get_pixels_by_source_instance([source.SOPInstanceUID], combine_segments=True)
    assert np.array_equal(pixels[0], LABELS)
    assert segmentation.PatientID == source.PatientID
    assert segmentation.StudyInstanceUID == source.StudyInstanceUID
    kinds = [segmentation.get_segment_description(number) for number in (1, 2)]
    assert [kind.segment_label for kind in kinds] == ["right lung", "left lung"]
    for kind, side in zip(kinds, ("24028007", "7771000"), strict=True):
        assert kind.segmented_property_category.value == "123037004"
        assert kind.segmented_property_type.value == "39607008"
        modifier = kind.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
        assert modifier.CodeValue == side
        assert len(kind.RecommendedDisplayCIELabValue) == 3


def test_dicom_segmentation_with_one_lung_absent_and_a_learnt_segment(tmp_path: Path) -> None:
    labels = np.where(LABELS == 2, 16, 0).astype(np.uint8)
    labelmap = Labelmap(
        labels, Radiograph.read(source_file(tmp_path, "dcm")), {1: "right lung", 2: "left lung", 16: "heart"}
    )
    segmentation = highdicom.seg.segread(write_labelmap(labelmap, tmp_path / "out.dcm", "dcmseg"))
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == [
        "right lung",
        "left lung",
        "heart",
    ]
    assert segmentation.pixel_array.sum() == (labels == 16).sum()


@pytest.mark.parametrize(
    "attributes",
    [{"PixelSpacing": None}, {"FrameOfReferenceUID": "1.2.3"}, {"PatientID": None, "StudyTime": None}],
    ids=["no spacing", "a frame of reference without position", "missing patient attributes"],
)
def test_dicom_segmentation_of_careless_exports(tmp_path: Path, attributes: dict[str, str | None]) -> None:
    dicom(tmp_path / "a.dcm", TWELVE, **attributes)
    segmentation = highdicom.seg.segread(write_labelmap(labelled(tmp_path / "a.dcm"), tmp_path / "b.dcm"))
    assert np.array_equal(segmentation.pixel_array, [LABELS == 1, LABELS == 2])


@pytest.mark.parametrize("flaw", ["nothing found", "no study"])
def test_what_no_dicom_segmentation_can_say(tmp_path: Path, flaw: str) -> None:
    dicom(tmp_path / "a.dcm", TWELVE, **({"StudyInstanceUID": None} if flaw == "no study" else {}))
    labels = LABELS * 0 if flaw == "nothing found" else LABELS
    with pytest.raises(RadiographError, match="write PNG"):
        write_labelmap(labelled(tmp_path / "a.dcm", labels), tmp_path / "b.dcm", "dcmseg")
    assert not (tmp_path / "b.dcm").exists()


def test_dicom_segmentation_needs_dicom(tmp_path: Path) -> None:
    labelmap = labelled(source_file(tmp_path, "png"))
    with pytest.raises(RadiographError, match="needs a DICOM radiograph"):
        write_labelmap(labelmap, tmp_path / "out", "dcmseg")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["dcm", "png", "tif", "nii.gz", "nii", "nrrd", "mha"])
def test_an_edited_image_differs_only_inside_the_mask(tmp_path: Path, kind: str) -> None:
    radiograph = Radiograph.read(source_file(tmp_path, kind))
    where = LABELS == 1
    edited = radiograph.to_stored(np.full(radiograph.shape, 0.5, np.float32), where)
    path = write_image(radiograph, edited, tmp_path / "out", MARK)
    back = Radiograph.read(path)
    assert path.name == f"film.{'nii.gz' if kind == 'nii' else kind}"
    assert back.stored.dtype == radiograph.stored.dtype
    assert np.array_equal(back.stored, edited)
    assert np.array_equal(back.stored[~where], radiograph.stored[~where])
    assert (back.stored[where] != radiograph.stored[where]).mean() > 0.9
    assert back.source.synthetic == MARK
    assert radiograph.source.synthetic is None
    assert back.spacing_mm == pytest.approx(radiograph.spacing_mm)


@pytest.mark.parametrize("photometry", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("dtype", "bits"), [("uint16", 16), ("int16", 16), ("uint16", 14), ("uint8", 8)])
def test_every_bit_outside_the_mask_survives_in_dicom(
    tmp_path: Path, dtype: str, bits: int, photometry: str
) -> None:
    """With a window that clips most of the range, which the way over grey values would lose."""
    low = -(2 ** (bits - 1)) if dtype == "int16" else 0
    pixels = (np.random.default_rng(0).integers(0, 2**bits, (97, 81)) + low).astype(dtype)
    window = {"WindowCenter": low + 2 ** (bits - 1), "WindowWidth": 2 ** (bits - 2)}
    attributes = window | {"PhotometricInterpretation": photometry}
    dicom(tmp_path / "a.dcm", pixels, bits, RescaleSlope=1, RescaleIntercept=0, **attributes)
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    where = np.zeros(pixels.shape, bool)
    where[20:60, 10:50] = True
    noise = np.random.default_rng(1).random(pixels.shape).astype(np.float32)
    path = write_image(radiograph, radiograph.to_stored(noise, where), tmp_path / "b.dcm", MARK)
    written = pydicom.dcmread(path)
    assert written.pixel_array.dtype == np.dtype(dtype)
    assert np.array_equal(written.pixel_array[~where], pixels[~where])
    back = Radiograph.read(path)
    assert np.array_equal(back.pixels[~where], radiograph.pixels[~where])
    assert np.abs(back.pixels - noise)[where].max() < 2 ** (2 - bits) + 1e-6


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_a_lossy_source_is_written_as_png_of_the_decoded_pixels(tmp_path: Path, kind: str) -> None:
    radiograph = Radiograph.read(source_file(tmp_path, kind))
    path = write_image(radiograph, radiograph.stored, tmp_path / f"edited.{kind}", MARK)
    assert path == tmp_path / "edited.png"
    assert np.array_equal(Radiograph.read(path).stored, radiograph.stored)


def test_a_derived_dicom_says_so_and_carries_nothing_of_the_patient(tmp_path: Path) -> None:
    file = source_file(tmp_path, "dcm")
    path = write_image(Radiograph.read(file), TWELVE, tmp_path / "new.dcm", MARK)
    source, derived = pydicom.dcmread(file), pydicom.dcmread(path)
    assert list(derived.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert "Synthetic" in derived.DerivationDescription
    assert derived.PatientIdentityRemoved == "YES"
    assert derived.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert derived[keyword].value != source[keyword].value
    content = path.read_bytes()
    for secret in (PATIENT, PATIENT_ID, "Roe^Richard", "Hospital", str(source.StudyInstanceUID)):
        assert secret.encode() in file.read_bytes()
        assert secret.encode() not in content
    assert not derived.PatientBirthDate
    assert not derived.StudyDate
    assert (derived.WindowCenter, derived.WindowWidth) == (2048, 3000)


def test_a_monochrome1_source_stays_so(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", 4095 - TWELVE, PhotometricInterpretation="MONOCHROME1")
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    back = Radiograph.read(write_image(radiograph, radiograph.stored, tmp_path / "b.dcm", None))
    assert np.array_equal(back.pixels, radiograph.pixels)
    with pytest.raises(RadiographError, match="write dicom instead"):
        write_image(radiograph, radiograph.stored, tmp_path / "b.png", None)


def test_nifti_scaling_survives_an_edit(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(TWELVE.T, np.eye(4))
    image.header.set_slope_inter(0.5, -7)
    nibabel.save(image, tmp_path / "a.nii")
    radiograph = Radiograph.read(tmp_path / "a.nii")
    path = write_image(radiograph, radiograph.stored, tmp_path / "b.nii", MARK)
    assert np.allclose(nibabel.load(path).get_fdata(), TWELVE.T * 0.5 - 7)
    assert b"synthetic" in nibabel.load(path).header["descrip"].item()


def test_an_array_becomes_a_marked_png(tmp_path: Path) -> None:
    radiograph = Radiograph.from_array(EIGHT, name="sample")
    path = write_image(radiograph, EIGHT, tmp_path, MARK)
    assert path == tmp_path / "sample.png"
    assert Radiograph.read(path).source.synthetic == MARK


def test_pixels_of_another_kind_are_refused(tmp_path: Path) -> None:
    radiograph = Radiograph.from_array(EIGHT)
    with pytest.raises(RadiographError, match="to_stored"):
        write_image(radiograph, radiograph.pixels, tmp_path, None)
    with pytest.raises(RadiographError, match="uint8"):
        Labelmap(LABELS.astype(np.int32), radiograph)


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RadiographError, match="cannot be written"):
        write_labelmap(labelled(source_file(tmp_path, "png")), tmp_path / "file" / "out", "png")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelmap = labelled(source_file(tmp_path, "png"))
    path = write_labelmap(labelmap, tmp_path / "out", "png")
    before = path.read_bytes()

    def half(target: Path, *_: object) -> None:
        write_png(target, LABELS[:10], None)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dino_diffusion.files.write_labelmap.write_png", half)
    with pytest.raises(RadiographError, match="No space left"):
        write_labelmap(labelmap, tmp_path / "out", "png")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before
