"""A derived DICOM image carries the picture and nothing of the person, and says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dino_diffusion import __version__
from dino_diffusion.errors import RadiographError
from dino_diffusion.files.derived_dicom import KEPT, KEPT_IN_SEQUENCES, SYNTHETIC_DATA
from dino_diffusion.files.overlay_plane import GROUP, written
from dino_diffusion.files.write_image import write_image
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.save import save_synthetic
from dino_diffusion.generation.variants import Synthetic
from dino_diffusion.radiograph import Radiograph
from tests.core.radiograph.phantom import chest, dicom, item
from tests.tiny import smooth_picture

MARK = {"operation": "inpaint", "parameters": {"seed": 7}}
SECRET, SECRET_DATE, SECRET_TIME, SECRET_UID = "SECRETMRN", "19010203", "010203", "1.2.3.999.1901"
TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
VALUES = dict.fromkeys(TEXTS, SECRET) | {
    "DA": SECRET_DATE,
    "TM": SECRET_TIME,
    "DT": SECRET_DATE + SECRET_TIME,
    "UI": SECRET_UID,
    "AS": "099Y",
}


def derived(source: Path, target: Path, mark: dict | None = MARK) -> Dataset:
    radiograph = Radiograph.read(source)
    return pydicom.dcmread(write_image(radiograph, radiograph.stored, target, mark))


def everything() -> dict[str, str]:
    """Every public attribute that can hold text, a date, a time or an identifier, except the picture's."""
    reserved = {"SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet"}
    return {
        entry[4]: VALUES[entry[0]]
        for tag, entry in DicomDictionary.items()
        if entry[0] in VALUES and tag >> 16 > 0x0006 and entry[4] not in {*KEPT, *reserved}
    }


def test_no_public_attribute_of_the_source_gets_through(tmp_path: Path) -> None:
    """All of pydicom's dictionary, and with it the Basic Application Level Confidentiality Profile."""
    attributes = everything()
    assert len(attributes) > 1700
    dicom(tmp_path / "a.dcm", chest(), **attributes | {"Modality": "CR"})
    before, after = (tmp_path / "a.dcm").read_bytes(), tmp_path / "b.dcm"
    derived(tmp_path / "a.dcm", after)
    for secret in (SECRET, SECRET_DATE, SECRET_UID, "099Y"):
        assert secret.encode() in before
        assert secret.encode() not in after.read_bytes()


def test_sequences_keep_their_codes_and_tables_alone(tmp_path: Path) -> None:
    assert not {"TextValue", "MappingResource", "ContextUID", "LUTExplanation"} & set(KEPT_IN_SEQUENCES)
    values = np.arange(4096, dtype="<u2").tobytes()
    table = item(LUTDescriptor=[4096, 0, 16], LUTData=values, LUTExplanation=SECRET)
    modifier = item(CodeValue="M", CodingSchemeDesignator="99X", CodeMeaning="m", ContextUID=SECRET_UID)
    view = item(CodeValue="399348003", CodingSchemeDesignator="SCT", CodeMeaning="antero-posterior")
    view.ViewModifierCodeSequence, view.PatientName = Sequence([modifier]), SECRET
    view.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", SECRET)
    source = dicom(tmp_path / "a.dcm", chest())
    source.VOILUTSequence, source.ViewCodeSequence = Sequence([table]), Sequence([view])
    source.private_block(0x0013, "MAKER", create=True).add_new(1, "LO", SECRET)
    source.save_as(tmp_path / "a.dcm")
    image = derived(tmp_path / "a.dcm", tmp_path / "b.dcm")
    content = (tmp_path / "b.dcm").read_bytes()
    assert SECRET.encode() not in content and SECRET_UID.encode() not in content
    assert image.ViewCodeSequence[0].CodeValue == "399348003"
    assert image.ViewCodeSequence[0].ViewModifierCodeSequence[0].CodeMeaning == "m"
    shown = [Radiograph.read(tmp_path / name).pixels for name in ("a.dcm", "b.dcm")]
    assert np.array_equal(*shown)


def test_it_says_what_it_is_everywhere(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", chest())
    image = derived(tmp_path / "a.dcm", tmp_path / "b.dcm")
    assert list(image.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    for keyword in ("SeriesDescription", "StudyDescription", "ImageComments"):
        assert image[keyword].value.startswith("SYNTHETIC")
    assert "Synthetic image" in image.DerivationDescription
    assert image[SYNTHETIC_DATA].value == "YES"
    equipment = image.ContributingEquipmentSequence[0]
    assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("DiNO-Diffusion", __version__)
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
    uids = {image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID}
    assert len(uids) == 3
    assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    again = derived(tmp_path / "a.dcm", tmp_path / "c.dcm")
    assert not uids & {again.StudyInstanceUID, again.SeriesInstanceUID, again.SOPInstanceUID}


def test_an_edit_without_a_recipe_is_not_called_synthetic(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", chest())
    image = derived(tmp_path / "a.dcm", tmp_path / "b.dcm", mark=None)
    assert image.DerivationDescription == "Edited image"
    assert SYNTHETIC_DATA not in image and (GROUP, 0x3000) not in image


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["F", "L"]])
def test_the_word_lies_in_its_own_plane_upright(tmp_path: Path, orientation: list[str]) -> None:
    """Whichever way the detector stores the picture."""
    dicom(tmp_path / "a.dcm", chest(), PatientOrientation=orientation)
    image = derived(tmp_path / "a.dcm", tmp_path / "b.dcm")
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    plane = image.overlay_array(GROUP)
    assert plane.shape == image.pixel_array.shape
    upright = radiograph.source.grid.picture(plane.reshape(radiograph.source.grid.shape))
    assert np.array_equal(upright.astype(bool), written("SYNTHETIC", radiograph.shape))
    assert upright[-radiograph.shape[0] // 4 :].any() and not upright[: radiograph.shape[0] // 2].any()
    assert image[GROUP, 0x0022].value == "SYNTHETIC"
    assert np.array_equal(image.pixel_array, pydicom.dcmread(tmp_path / "a.dcm").pixel_array)


@pytest.mark.parametrize("shape", [(256, 256), (2500, 2000), (96, 80), (40, 600)])
def test_the_word_fits(shape: tuple[int, int]) -> None:
    drawn = written("SYNTHETIC", shape)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert drawn.shape == shape
    assert rows[-1] < shape[0] - 1 and columns[0] > 0 and columns[-1] < shape[1] - 1
    assert len(columns) > 8 * 2


@pytest.mark.parametrize(
    ("burned_in", "removed"), [("NO", "YES"), ("YES", "NO"), (None, "YES")], ids=["no", "yes", "unknown"]
)
def test_text_in_the_pixels_is_not_denied(tmp_path: Path, burned_in: str | None, removed: str) -> None:
    """What the source does not say is not claimed either."""
    dicom(tmp_path / "a.dcm", chest(), **({"BurnedInAnnotation": burned_in} if burned_in else {}))
    image = derived(tmp_path / "a.dcm", tmp_path / "b.dcm")
    assert image.PatientIdentityRemoved == removed
    assert image.get("BurnedInAnnotation") == burned_in


@pytest.mark.parametrize("link", [False, True])
def test_an_original_is_never_replaced(tmp_path: Path, link: bool) -> None:
    dicom(tmp_path / "a.dcm", chest())
    before = (tmp_path / "a.dcm").read_bytes()
    target = tmp_path / "a.dcm"
    if link:
        target = tmp_path / "b.dcm"
        target.hardlink_to(tmp_path / "a.dcm")
    with pytest.raises(RadiographError, match="would replace an original"):
        derived(tmp_path / "a.dcm", target)
    assert (tmp_path / "a.dcm").read_bytes() == before


def test_pydicom_and_simpleitk_read_a_generated_image_alike(tmp_path: Path) -> None:
    recipe = Recipe("generate", "0123456789abcdef", {"seed": 1})
    generated = Synthetic(smooth_picture(4, 64, 50), recipe, spacing_mm=(0.6, 0.5))
    path, _ = save_synthetic(generated, tmp_path / "a.dcm")
    dataset, image = pydicom.dcmread(path), SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image)[0], dataset.pixel_array)
    assert np.abs(dataset.pixel_array / 4095 - np.clip(generated.pixels, 0, 1)).max() < 1e-3
    assert list(dataset.ImagerPixelSpacing) == [0.6, 0.5]
    assert image.GetMetaData("0008|0008").strip() == "DERIVED\\SECONDARY"
    assert Radiograph.read(path).source.synthetic == recipe.to_dict()
