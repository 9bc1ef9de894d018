"""Submitted labels as nnU-Net and COCO folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from typer.testing import CliRunner

from dino_diffusion.cli.app import app as program
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.export.coco import export_coco, run_lengths
from monailabel_app.lib.export.command import export
from monailabel_app.lib.export.nnunet import export_nnunet
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import MakeApp, ellipse, submit, write_mask
from tests.app.test_geometry import files

TWO = ellipse().astype(np.uint8) + 6 * ellipse(row=0.8, column=0.8).astype(np.uint8)


@pytest.fixture
def labelled(app: DinoDiffusionApp, tmp_path: Path) -> DinoDiffusionApp:
    """The same two segments under other values, and one image with one of them."""
    submit(app, "film0", TWO, tmp_path, {"Heart": 1, "Tube": 6})
    submit(app, "film1", 9 * (TWO == 1) + 4 * (TWO == 6), tmp_path, {"Heart": 9, "Tube": 4})
    submit(app, "film2", TWO == 6, tmp_path, {"Tube": 1})
    return app


def decoded(code: dict[str, Any]) -> np.ndarray:
    """As pycocotools reads an uncompressed run-length code."""
    values = np.repeat(np.arange(len(code["counts"])) % 2 == 1, code["counts"])
    return values.reshape(code["size"], order="F")


def test_nnunet_gets_one_number_a_name_and_every_image_on_its_grid(
    labelled: DinoDiffusionApp, tmp_path: Path, studies: Path
) -> None:
    made = export_nnunet(labelled.datastore(), tmp_path / "out", "Chest", 7)
    assert made.folder.name == "Dataset007_Chest" and made.left_out == {}
    about = json.loads((made.folder / "dataset.json").read_text())
    assert about["labels"] == {"background": 0, "Heart": 1, "Tube": 2}
    assert about["numTraining"] == 3 and about["channel_names"] == {"0": "X-ray"}
    for image, name in made.cases.items():
        picture = SimpleITK.ReadImage(str(made.folder / "imagesTr" / f"{name}_0000.nii.gz"))
        mask = SimpleITK.ReadImage(str(made.folder / "labelsTr" / f"{name}.nii.gz"))
        assert picture.GetSize() == mask.GetSize() and picture.GetSpacing() == mask.GetSpacing()
        pixels = Radiograph.read(studies / f"{image}.png").pixels
        assert np.array_equal(SimpleITK.GetArrayFromImage(picture)[0], pixels)
        expected = (TWO == 1) * (image != "film2") + 2 * (TWO == 6)
        assert np.array_equal(SimpleITK.GetArrayFromImage(mask)[0], expected)


def test_coco_gets_exact_masks(labelled: DinoDiffusionApp, tmp_path: Path) -> None:
    made = export_coco(labelled.datastore(), tmp_path / "coco")
    document = json.loads((made.folder / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    pictures = {picture["id"]: picture for picture in document["images"]}
    assert len(document["annotations"]) == 5 and len(pictures) == 3
    for annotation in document["annotations"]:
        mask = decoded(annotation["segmentation"])
        wanted = (1 if names[annotation["category_id"]] == "Heart" else 6) == TWO
        assert np.array_equal(mask, wanted) and annotation["area"] == wanted.sum()
        left, top, width, height = annotation["bbox"]
        assert wanted[top : top + height, left : left + width].sum() == wanted.sum()
        picture = pictures[annotation["image_id"]]
        with Image.open(made.folder / "images" / picture["file_name"]) as opened:
            assert opened.size == (picture["width"], picture["height"])


def test_segments_that_overlap_are_all_there(app: DinoDiffusionApp, tmp_path: Path) -> None:
    lower = ellipse(row=0.6)
    submit(app, "film0", ellipse(), tmp_path, {"Heart": 1})
    submit(app, "film0", lower, tmp_path, {"Tube": 1}, "final_2")
    document = json.loads(
        (export_coco(app.datastore(), tmp_path / "coco").folder / "annotations.json").read_text()
    )
    heart, tube = (decoded(annotation["segmentation"]) for annotation in document["annotations"])
    assert np.array_equal(heart, ellipse()) and np.array_equal(tube, lower)
    made = export_nnunet(app.datastore(), tmp_path / "out")
    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(made.folder / "labelsTr" / "film0.nii.gz")))[0]
    assert np.array_equal(mask == 2, lower) and np.array_equal(mask == 1, ellipse() & ~lower)


@pytest.mark.parametrize("corner", [True, False])
def test_run_lengths_begin_with_a_run_of_nothing(corner: bool) -> None:
    mask = np.random.default_rng(0).random((7, 5)) > 0.5
    mask[0, 0] = corner
    code = run_lengths(mask)
    assert np.array_equal(decoded(code), mask) and sum(code["counts"]) == mask.size


def test_turned_files_are_exported_upright_with_their_spacing(make_app: MakeApp, tmp_path: Path) -> None:
    folder = tmp_path / "formats"
    folder.mkdir()
    sources = files(folder)
    app = make_app(folder)
    stored = np.zeros((90, 70), np.uint8)
    stored[10:40, 5:30] = 1
    for image in ("slice", "film"):
        app.datastore().save_label(image, str(write_mask(tmp_path / "mask.png", stored)), "final", {})
    made = export_nnunet(app.datastore(), tmp_path / "out")
    radiograph = Radiograph.read(sources["slice"])
    mask = SimpleITK.ReadImage(str(made.folder / "labelsTr" / "slice.nii.gz"))
    expected = read_labels(tmp_path / "mask.png", radiograph)
    assert np.array_equal(SimpleITK.GetArrayFromImage(mask)[0], expected)
    assert radiograph.spacing_mm is not None
    assert mask.GetSpacing()[:2] == pytest.approx(radiograph.spacing_mm[::-1])


def test_what_cannot_be_read_is_left_out_and_said(labelled: DinoDiffusionApp, tmp_path: Path) -> None:
    broken = Path(labelled.datastore().get_label_uri("film1", "final"))
    write_mask(broken, np.ones((30, 30)))
    made = export_coco(labelled.datastore(), tmp_path / "coco")
    assert set(made.cases) == {"film0", "film2"} and "own grid" in made.left_out["film1"]


def test_an_export_never_mixes_with_older_files(labelled: DinoDiffusionApp, tmp_path: Path) -> None:
    export_coco(labelled.datastore(), tmp_path / "coco")
    with pytest.raises(ConfigurationError, match="is not empty; name a new folder"):
        export_coco(labelled.datastore(), tmp_path / "coco")
    with pytest.raises(ConfigurationError, match="number from 1 to 999"):
        export_nnunet(labelled.datastore(), tmp_path / "out", "../x")
    with pytest.raises(ConfigurationError, match="no submitted label to export"):
        export_coco(labelled.datastore(), tmp_path / "other", images=["film3"])


def test_the_command_exports_a_servers_folder(
    labelled: DinoDiffusionApp, tmp_path: Path, studies: Path
) -> None:
    if "export" not in [command.name for command in program.registered_commands]:
        program.command()(export)
    asked = ["export", str(studies), "-o", str(tmp_path / "coco"), "--format", "coco", "--json"]
    done = CliRunner().invoke(program, asked)
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["cases"]) == {"film0", "film1", "film2"}
    again = CliRunner().invoke(program, asked)
    assert again.exit_code == 1
