"""Results lie where their source lies: every format, 2D and one slice, from the datastore or uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.errors import RequestError
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import Heard, MakeApp, ellipse, listening, write_mask
from tests.core.radiograph.phantom import chest, dicom
from tests.tiny import smooth_picture

SHAPE = (90, 70)
DIRECTION = (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def picture(dtype: str = "int16") -> np.ndarray:
    return (smooth_picture(5, *SHAPE) * 1000).astype(dtype)


def volume(path: Path, two_d: bool = False) -> Path:
    """With a spacing, an origin and a direction that nobody has by default."""
    image = SimpleITK.GetImageFromArray(picture() if two_d else picture()[None])
    image.SetSpacing((0.3, 0.2) if two_d else (0.3, 0.2, 5.0))
    image.SetOrigin((7.0, -8.0) if two_d else (7.0, -8.0, 9.0))
    if not two_d:
        image.SetDirection(DIRECTION)
    SimpleITK.WriteImage(image, str(path))
    return path


def geometry(path: Path | str) -> tuple[Any, ...]:
    image = SimpleITK.ReadImage(str(path))
    placed = (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())
    return image.GetSize(), tuple(round(number, 4) for number in placed)


def files(folder: Path) -> dict[str, Path]:
    """One image a format, all with the same pixels."""
    nifti = nibabel.Nifti1Image(picture().T[:, :, None], np.diag([0.3, 0.2, 5, 1]))
    nifti.header["descrip"] = b"of a test"
    nibabel.save(nifti, folder / "scan.nii.gz")
    Image.fromarray(picture("uint16")).save(folder / "film.png")
    dicom(folder / "shot.dcm", picture("uint16"))
    return {
        "slice": volume(folder / "slice.nrrd"),
        "flat": volume(folder / "flat.nrrd", two_d=True),
        "scan": folder / "scan.nii.gz",
        "film": folder / "film.png",
        "shot": folder / "shot.dcm",
        "meta": volume(folder / "meta.mha"),
    }


@pytest.fixture
def formats(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "formats"
    folder.mkdir()
    return files(folder)


@pytest.mark.parametrize("name", ["slice", "flat", "scan", "film", "meta"])
@pytest.mark.parametrize("stored", [True, False], ids=["of the datastore", "uploaded"])
def test_labels_have_the_geometry_of_their_source(
    make_app: MakeApp, formats: dict[str, Path], name: str, stored: bool
) -> None:
    app = make_app(formats[name].parent)
    image = name if stored else str(formats[name])
    result = app.infer({"model": "regions", "image": image, "result_dtype": "uint8"})
    assert geometry(result["file"]) == geometry(formats[name])
    assert SimpleITK.ReadImage(result["file"]).GetPixelIDValue() == SimpleITK.sitkUInt8
    labels = read_labels(result["file"], Radiograph.read(formats[name]))
    assert set(np.unique(labels)) == set(result["params"]["label_names"].values())


@pytest.mark.parametrize("name", ["slice", "flat", "scan", "film", "meta"])
def test_the_stock_client_gets_nrrd(app: DinoDiffusionApp, formats: dict[str, Path], name: str) -> None:
    stock = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    file = app.infer({"model": "lungs", "image": str(formats[name]), **stock})["file"]
    assert file.endswith(".nrrd")
    size, placed = geometry(file)
    wanted_size, wanted = geometry(formats[name])
    assert size == wanted_size and placed == pytest.approx(wanted, abs=1e-3)


def test_the_stock_client_gets_nrrd_of_dicom(app: DinoDiffusionApp, formats: dict[str, Path]) -> None:
    file = app.infer({"model": "lungs", "image": str(formats["shot"]), "result_extension": ".nrrd"})["file"]
    size, placed = geometry(file)
    # Where the file says it; ITK itself leaves the spacing of computed radiography aside.
    assert size == (SHAPE[1], SHAPE[0], 1) and placed[:2] == (0.3, 0.2)


@pytest.mark.parametrize("name", ["slice", "flat", "scan", "film", "meta"])
@pytest.mark.parametrize("model", ["inpaint", "variant"])
def test_images_have_the_geometry_and_the_values_of_their_source(
    app: DinoDiffusionApp, formats: dict[str, Path], tmp_path: Path, name: str, model: str
) -> None:
    mask = write_mask(tmp_path / "mask.png", ellipse(SHAPE))
    asked = {"model": model, "image": str(formats[name]), "label": str(mask), "steps": 2}
    file = app.infer({**asked, "result_dtype": "uint8"})["file"]
    assert geometry(file) == geometry(formats[name])
    before, after = (SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(p))) for p in (formats[name], file))
    assert after.dtype == before.dtype
    outside = ~ellipse(SHAPE).reshape(before.shape)
    assert np.array_equal(before[outside], after[outside]) == (model == "inpaint")
    assert not np.array_equal(before, after)


def test_a_niftis_own_header_stays(app: DinoDiffusionApp, formats: dict[str, Path]) -> None:
    result = app.infer({"model": "lungs", "image": str(formats["scan"])})
    before, after = (nibabel.load(path) for path in (formats["scan"], result["file"]))
    assert np.array_equal(before.affine, after.affine)
    assert after.header["qform_code"] == before.header["qform_code"]


def test_a_dicom_radiograph_gets_a_dicom_image_and_a_dicom_segmentation(
    app: DinoDiffusionApp, formats: dict[str, Path], tmp_path: Path
) -> None:
    source = pydicom.dcmread(formats["shot"])
    asked = {"model": "regions", "image": str(formats["shot"]), "result_extension": ".dcm"}
    segmentation = pydicom.dcmread(app.infer(asked)["file"])
    assert segmentation.Modality == "SEG"
    referred = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referred.ReferencedSOPInstanceUID == source.SOPInstanceUID
    mask = write_mask(tmp_path / "mask.png", ellipse(SHAPE))
    painted = app.infer({"model": "inpaint", "image": str(formats["shot"]), "label": str(mask), "steps": 2})
    image = pydicom.dcmread(painted["file"])
    assert image.PixelSpacing == source.PixelSpacing
    assert image.PatientName != source.PatientName and image.SOPInstanceUID != source.SOPInstanceUID
    outside = ~ellipse(SHAPE)
    assert np.array_equal(image.pixel_array[outside], source.pixel_array[outside])


def test_dicom_segmentation_needs_dicom(app: DinoDiffusionApp) -> None:
    with pytest.raises(RequestError, match="needs a DICOM radiograph"):
        app.infer({"model": "lungs", "image": "film0", "result_extension": ".dcm"})


def test_an_inverted_dicom_image_stays_dicom_and_says_why(app: DinoDiffusionApp, tmp_path: Path) -> None:
    file = tmp_path / "inverted.dcm"
    dicom(file, chest(), PhotometricInterpretation="MONOCHROME1")
    asked = {"model": "variant", "image": str(file), "steps": 1, "result_extension": ".nrrd"}
    result = app.infer(asked)
    assert pydicom.dcmread(result["file"]).PhotometricInterpretation == "MONOCHROME1"
    assert any("black is dense" in warning for warning in result["params"]["warnings"])


def test_a_folder_with_one_image_is_that_image(app: DinoDiffusionApp, tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    dicom(series / "IM0001", chest())
    assert app.infer({"model": "lungs", "image": str(series)})["file"].endswith(".nrrd")
    dicom(series / "IM0002", chest())
    with pytest.raises(RequestError, match="has 2 images"):
        app.infer({"model": "lungs", "image": str(series)})


@pytest.mark.parametrize("ending", ["exe", "../x.nrrd", ".nrrd/../x", 3])
def test_an_unknown_format_is_refused(app: DinoDiffusionApp, ending: Any) -> None:
    with pytest.raises(RequestError, match="result_extension"):
        app.infer({"model": "lungs", "image": "film0", "result_extension": ending})


def test_a_slicer_job_on_dicom_gets_image_and_mask_as_nrrd(
    app: DinoDiffusionApp, formats: dict[str, Path], tmp_path: Path, job_folder: Path
) -> None:
    mask = write_mask(tmp_path / "mask.png", ellipse(SHAPE))
    asked = {"model": "inpaint", "image": str(formats["shot"]), "label": str(mask), "steps": 2}
    with listening(Heard(), job_folder):
        (candidate,) = app.infer({**asked, "result_extension": ".nrrd"})["params"]["candidates"]
    assert geometry(job_folder / candidate["image"]) == geometry(job_folder / candidate["mask_id"])
    painted = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(job_folder / candidate["mask_id"])))
    assert np.array_equal(painted[0] > 0, ellipse(SHAPE))
