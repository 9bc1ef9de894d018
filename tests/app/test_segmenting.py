"""Lungs, zones, learnt segments and regions as the app gives them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from dino_diffusion.codes import SEGMENTS
from dino_diffusion.errors import Cancelled, RadiographError
from dino_diffusion.segmentation.lungs import segment_lungs
from monailabel_app.lib.engine import Engine
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.lib.infers.regions import upright
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import SHAPE, Heard, listening, write_picture
from tests.app.test_geometry import volume


def labels(file: str) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_lungs_are_those_of_the_library(app: DinoDiffusionApp, engine: Engine, studies: Path) -> None:
    result = app.infer({"model": "lungs", "image": "film1"})
    found = segment_lungs(engine.bundle, engine.open(studies / "film1.png"))
    assert np.array_equal(labels(result["file"]), found.labelmap.labels)
    params = result["params"]
    assert params["uncertainty"] == found.uncertainty and params["warnings"] == list(found.warnings)
    json.dumps(params)


def test_labels_carry_standard_codes_and_colours(app: DinoDiffusionApp) -> None:
    params = app.infer({"model": "lungs", "image": "film1"})["params"]
    right, left = params["labels"]
    assert params["label_names"] == {"right lung": 1, "left lung": 2}
    assert (right["code"], right["scheme"], right["meaning"]) == ("39607008", "SCT", "Lung")
    assert right["laterality"]["meaning"] == "Right" and left["laterality"]["meaning"] == "Left"
    assert right["colour"] == list(SEGMENTS[1].colour)


def test_zones_take_the_place_of_the_lungs(app: DinoDiffusionApp) -> None:
    whole = labels(app.infer({"model": "lungs", "image": "film1"})["file"])
    result = app.infer({"model": "lungs", "image": "film1", "zones": True})
    zones = labels(result["file"])
    assert sorted(result["params"]["label_names"].values()) == [3, 4, 5, 6, 7, 8]
    assert np.array_equal(np.isin(zones, (3, 4, 5)), whole == 1)
    assert np.array_equal(np.isin(zones, (6, 7, 8)), whole == 2)


def test_an_unknown_learnt_segment_is_named(app: DinoDiffusionApp) -> None:
    with pytest.raises(NotFound, match="No segment 'spleen' has been learnt"):
        app.infer({"model": "lungs", "image": "film1", "embeddings": "spleen"})


def test_every_granularity_answers_without_the_model(app: DinoDiffusionApp) -> None:
    app.infer({"model": "regions", "image": "film2"})
    heard = Heard()
    with listening(heard):
        coarse = app.infer({"model": "regions", "image": "film2", "granularity": 0})
        fine = app.infer({"model": "regions", "image": "film2", "granularity": "1.0"})
    # No denoiser pass was reported: what was seen before answers.
    assert not [done for done in heard.shares if 0 < done < 0.9]
    assert 2 <= coarse["params"]["count"] < fine["params"]["count"]
    assert labels(coarse["file"]).min() == 16


def test_the_region_under_a_pixel_is_that_of_the_whole_map(app: DinoDiffusionApp) -> None:
    whole = labels(app.infer({"model": "regions", "image": "film2", "granularity": 0.2})["file"])
    asked = {"model": "regions", "image": "film2", "granularity": 0.2, "point": [30, 80]}
    one = labels(app.infer(asked)["file"])
    assert np.array_equal(one == 16, whole == whole[80, 30])


def test_a_point_is_told_in_the_files_own_pixels(app: DinoDiffusionApp, tmp_path: Path) -> None:
    """Of a volume that lies upside down in memory."""
    file = volume(tmp_path / "slice.nrrd")
    image = app.engine.open(file)
    assert image.source.grid.flip_rows or image.source.grid.flip_columns or image.source.grid.transpose
    stored = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))[0]
    assert image.stored[upright(image, 12, 70)] == stored[70, 12]


@pytest.mark.parametrize("point", [[-1, 0], [SHAPE[1], 0], [0, SHAPE[0]]])
def test_a_point_outside_is_refused(app: DinoDiffusionApp, point: list[int]) -> None:
    with pytest.raises(RequestError, match="lies outside"):
        app.infer({"model": "regions", "image": "film2", "point": point})


def test_looking_at_an_image_can_be_stopped_at_every_pass(
    app: DinoDiffusionApp, engine: Engine, tmp_path: Path
) -> None:
    file = write_picture(tmp_path / "new.png", 50)
    for stop_at in (1, 2, 3, 4):
        with listening(Heard(stop_at)) as heard, pytest.raises(Cancelled):
            app.infer({"model": "lungs", "image": str(file)})
        assert len(heard.reports) == stop_at
    with listening(Heard()) as heard:
        app.infer({"model": "lungs", "image": str(file)})
    # Nothing of what was stopped is kept: reading, looking, both passes, writing, done.
    assert len(engine.bundle.readout.config.times) == 2
    assert heard.shares == [0.0, 0.0, 0.4, 0.8, 0.9, 1.0]


@pytest.mark.parametrize("image", ["nobody", "", None, 3, "../film0.png", "/nowhere/film.png"])
def test_an_image_that_is_not_there(app: DinoDiffusionApp, image: object) -> None:
    with pytest.raises(NotFound):
        app.infer({"model": "lungs", "image": image})


@pytest.mark.parametrize("model", ["nosuch", None, 3, "segment_spleen"])
def test_a_model_that_is_not_there(app: DinoDiffusionApp, model: object) -> None:
    with pytest.raises(NotFound, match="choose one of lungs"):
        app.infer({"model": model, "image": "film0"})


def test_what_is_no_image_ends_in_a_sentence(app: DinoDiffusionApp, tmp_path: Path) -> None:
    file = tmp_path / "text.png"
    file.write_text("no picture")
    with pytest.raises(RadiographError, match="no image that can be read"):
        app.infer({"model": "lungs", "image": str(file)})


def test_the_model_looks_once_at_the_same_content(
    app: DinoDiffusionApp, studies: Path, tmp_path: Path
) -> None:
    app.infer({"model": "lungs", "image": "film3"})
    again = tmp_path / "upload.png"
    again.write_bytes((studies / "film3.png").read_bytes())
    with listening(Heard()) as heard:
        app.infer({"model": "lungs", "image": str(again), "zones": True})
    assert not [done for done in heard.shares if 0 < done < 0.9]


def test_a_result_can_become_a_label_of_the_image(app: DinoDiffusionApp) -> None:
    asked = {"model": "lungs", "image": "film0", "save_label": True, "label_tag": "original"}
    result = app.infer(asked)
    assert result["file"] is None and result["label"] == "film0"
    kept = app.datastore().get_label_uri("film0", "original")
    assert np.asarray(Image.open(kept)).shape == SHAPE
    assert app.datastore().get_label_info("film0", "original")["params"]["label_names"]
    with pytest.raises(RequestError, match="cannot be saved as a label"):
        app.infer({"model": "variant", "image": "film0", "steps": 1, "save_label": True})
