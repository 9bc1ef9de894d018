"""The app with the model that travels with the package, on the sample radiographs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.engine import Engine
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import Heard, listening

SAMPLES = Path(__file__).parents[2] / "core" / "dino_diffusion" / "samples"
FILM, DICOM = "synthetic-1", "synthetic-4"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DinoDiffusionApp]:
    """Loads the default bundle, as the server does."""
    folder = tmp_path_factory.mktemp("served")
    studies = folder / "studies"
    studies.mkdir()
    for path in SAMPLES.iterdir():
        shutil.copy(path, studies)
    app = DinoDiffusionApp(str(folder / "app"), str(studies), {"device": "cpu"})
    yield app
    app.datastore()._observer.stop()  # type: ignore[attr-defined]


def lungs(app: DinoDiffusionApp, image: str) -> tuple[np.ndarray, dict[str, object]]:
    """Labels `(H, W)`, upright, and the result's params."""
    result = app.infer({"model": "lungs", "image": image, "result_extension": ".nrrd"})
    radiograph = Radiograph.read(app.datastore().get_image_uri(image))
    return read_labels(result["file"], radiograph), result["params"]


def test_both_lungs_of_a_dicom_radiograph_lie_on_their_sides(real: DinoDiffusionApp) -> None:
    labels, params = lungs(real, DICOM)
    middle = labels.shape[1] / 2
    assert np.nonzero(labels == 1)[1].mean() < middle < np.nonzero(labels == 2)[1].mean()
    assert 0.1 < (labels > 0).mean() < 0.6 and 0 < float(str(params["uncertainty"])) < 0.3
    asked = {"model": "lungs", "image": DICOM, "result_extension": ".dcm"}
    file = real.infer(asked)["file"]
    radiograph = real.engine.open(real.datastore().get_image_uri(DICOM))
    assert np.array_equal(read_labels(file, radiograph), labels)


def test_a_lung_taught_on_one_film_is_found_on_another(real: DinoDiffusionApp, tmp_path: Path) -> None:
    taught, _ = lungs(real, FILM)
    file = tmp_path / "label.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray((taught == 1).astype(np.uint8)), str(file))
    real.datastore().save_label(FILM, str(file), "final", {"label_info": [{"name": "air", "idx": 1}]})
    learnt = real.train({"model": "learn_segment", "label": "air"})
    assert learnt["activated"]
    expected, _ = lungs(real, "synthetic-2")
    result = real.infer({"model": learnt["model"], "image": "synthetic-2"})
    found = read_labels(result["file"], Radiograph.read(real.datastore().get_image_uri("synthetic-2"))) == 16
    right = expected == 1
    assert 2 * (found & right).sum() / (found.sum() + right.sum()) > 0.8


def test_a_painted_lesion_changes_its_mask_alone_and_is_shown_on_the_way(
    real: DinoDiffusionApp, tmp_path: Path
) -> None:
    labels, _ = lungs(real, FILM)
    rows, columns = np.nonzero(labels == 2)
    mask = np.zeros(labels.shape, np.uint8)
    row, column = int(rows.mean()), int(columns.mean())
    mask[row - 20 : row + 20, column - 15 : column + 15] = 1
    file = tmp_path / "mask.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask), str(file))
    concept = next(entry["name"] for entry in real.concepts.entries() if entry["fits"])
    folder = tmp_path / "job"
    folder.mkdir()
    asked = {"model": "inpaint", "image": FILM, "label": str(file), "concept": concept, "steps": 6}
    with listening(Heard(), folder) as heard:
        result = real.infer(asked)
    before, after = (
        Radiograph.read(p).stored for p in (real.datastore().get_image_uri(FILM), result["file"])
    )
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert (before[mask == 1] != after[mask == 1]).mean() > 0.5
    assert any(preview is not None for _, _, preview in heard.reports)


def test_it_is_loaded_once_and_asking_about_it_costs_nothing(
    real: DinoDiffusionApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "load", None)
    info = real.info()
    assert info["device"] and info["bundle"] == real.engine.bundle.id
    assert {"lungs", "regions", "inpaint", "variant", "twin", "strip"} <= set(info["models"])
    assert info["models"]["strip"]["type"] == "others" and info["models"]["lungs"]["type"] == "segmentation"
