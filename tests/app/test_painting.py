"""Painting as the app gives it out: what stays, what is written, how it is heard of and stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.errors import Cancelled, RadiographError
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.replay import replay
from dino_diffusion.generation.twin import mask_of_lungs
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import Heard, ellipse, listening, write_mask

PAINTERS = {
    "inpaint": {"concept": "opacity"},
    "variant": {},
    "twin": {"concept": "normal", "candidates": 2},
    "strip": {"from": "normal", "to": "opacity", "frames": 3},
}


@pytest.fixture
def mask(tmp_path: Path) -> str:
    return str(write_mask(tmp_path / "mask.png"))


def asked(model: str, mask: str, **more: Any) -> dict[str, Any]:
    label = {"label": mask} if model in ("inpaint", "twin") else {}
    return {"model": model, "image": "film0", "steps": 2, **label, **PAINTERS[model], **more}


def pixels(file: str | Path) -> np.ndarray:
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("model", PAINTERS)
def test_the_stock_route_gets_one_file_and_nothing_is_left_behind(
    app: DinoDiffusionApp, mask: str, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    result = app.infer(asked(model, mask))
    assert [str(path) for path in temporary.iterdir()] == [result["file"]]
    assert result["params"]["label_names"] == {} and result["params"]["synthetic"] is True
    assert Radiograph.read(result["file"]).source.synthetic is not None
    json.dumps(result["params"])


@pytest.mark.parametrize("model", PAINTERS)
def test_a_job_keeps_every_candidate_with_its_recipe(
    app: DinoDiffusionApp, mask: str, model: str, job_folder: Path
) -> None:
    more = {"candidates": 2} if model != "strip" else {}
    with listening(Heard(), job_folder) as heard:
        result = app.infer(asked(model, mask, **more))
    candidates = result["params"]["candidates"]
    assert len(candidates) == (3 if model == "strip" else 2)
    names = {path.name for path in job_folder.iterdir()}
    for candidate in candidates:
        assert {candidate["image"], candidate["recipe_id"]} <= names
        recipe = Recipe.from_json((job_folder / candidate["recipe_id"]).read_text())
        assert recipe.to_dict() == candidate["recipe"]
        if model in ("inpaint", "twin"):
            assert np.array_equal(pixels(job_folder / candidate["mask_id"]) > 0, ellipse())
    shown = candidates[-1 if model == "strip" else 0]
    assert Path(result["file"]) == job_folder / shown["image"]
    assert any(preview is not None for _, _, preview in heard.reports)
    assert heard.shares == sorted(heard.shares) and heard.shares[-1] == 1.0


@pytest.mark.parametrize("model", PAINTERS)
def test_painting_can_be_stopped_at_every_step(app: DinoDiffusionApp, mask: str, model: str) -> None:
    with listening(Heard()) as heard:
        app.infer(asked(model, mask))
    steps = [
        number
        for number, (_, said, _) in enumerate(heard.reports, 1)
        if said.startswith(("Painting", "Measuring"))
    ]
    assert len(steps) >= 2
    for stop_at in steps:
        with listening(Heard(stop_at)) as stopped, pytest.raises(Cancelled):
            app.infer(asked(model, mask))
        assert len(stopped.reports) == stop_at


def test_outside_the_mask_every_pixel_stays(app: DinoDiffusionApp, mask: str, studies: Path) -> None:
    result = app.infer(asked("inpaint", mask, strength="1", feather_mm="0"))
    before, after = pixels(studies / "film0.png"), pixels(result["file"])
    assert np.array_equal(before[~ellipse()], after[~ellipse()])
    assert not np.array_equal(before, after)
    assert result["params"]["pixels_outside_identical"] == int((~ellipse()).sum())


def test_labels_to_keep_are_kept(app: DinoDiffusionApp, tmp_path: Path, studies: Path) -> None:
    values = ellipse().astype(np.uint8)
    values[60:] *= 7
    file = str(write_mask(tmp_path / "labels.png", values))
    result = app.infer(asked("inpaint", file, keep_labels=[7], feather_mm=0))
    before, after = pixels(studies / "film0.png"), pixels(result["file"])
    changed = before != after
    assert changed[values == 1].any() and not changed[values == 7].any()


def test_the_mask_may_be_a_stored_label_and_its_names_count(
    app: DinoDiffusionApp, tmp_path: Path, studies: Path
) -> None:
    values = ellipse().astype(np.uint8)
    values[60:] *= 7
    file = str(write_mask(tmp_path / "labels.png", values))
    names = {"label_info": [{"name": "Lesion", "idx": 1}, {"name": "Device", "idx": 7}]}
    app.datastore().save_label("film0", file, "edit", names)
    request = {"model": "inpaint", "image": "film0", "steps": 2, "mask": "edit", "feather_mm": 0}
    result = app.infer({**request, "keep_labels": "device"})
    changed = pixels(studies / "film0.png") != pixels(result["file"])
    assert changed[values == 1].any() and not changed[values == 7].any()
    with pytest.raises(RequestError, match="no label 'spleen'"):
        app.infer({**request, "keep_labels": "spleen"})
    with pytest.raises(NotFound, match="no label with the tag 'other'"):
        app.infer({**request, "mask": "other"})
    with pytest.raises(RequestError, match="not from there"):
        app.infer({**request, "image": str(studies / "film0.png")})


def test_inpainting_without_a_mask_says_what_is_missing(app: DinoDiffusionApp) -> None:
    with pytest.raises(RequestError, match="needs a mask"):
        app.infer({"model": "inpaint", "image": "film0"})


def test_a_mask_of_another_image_is_refused(app: DinoDiffusionApp, tmp_path: Path) -> None:
    file = write_mask(tmp_path / "small.png", np.ones((20, 20)))
    with pytest.raises(RadiographError, match="draw it on the image's own grid"):
        app.infer(asked("inpaint", str(file)))


@pytest.mark.parametrize(
    "concept", ["nosuch", "/etc/hostname", "opacity:1+../normal", "~/x.safetensors", "opacity+"]
)
def test_a_concept_is_a_name_and_never_a_file(app: DinoDiffusionApp, mask: str, concept: str) -> None:
    with pytest.raises(NotFound, match="There is no concept"):
        app.infer(asked("inpaint", mask, concept=concept))


def test_concepts_are_weighed(app: DinoDiffusionApp, mask: str) -> None:
    recipe = app.infer(asked("inpaint", mask, concept="opacity:0.5+normal:-1"))["params"]["candidates"][0]
    assert recipe["recipe"]["parameters"]["concepts"] == [["opacity", 0.5], ["normal", -1.0]]
    assert app.concepts.weighted("none") == app.concepts.weighted("") == []
    with pytest.raises(RequestError, match="weights from -20 to 20"):
        app.concepts.weighted("opacity:500")


def test_concepts_are_listed_with_their_licence(app: DinoDiffusionApp) -> None:
    entries = {entry["name"]: entry for entry in app.concepts.entries()}
    assert (
        entries["normal"]["fits"] and entries["nih/normal"]["licence"] and not entries["nih/normal"]["fits"]
    )
    assert app.info()["models"]["inpaint"]["config"]["concept"] == ["none", "normal", "opacity"]


def test_a_damaged_concept_file_harms_no_other(app: DinoDiffusionApp) -> None:
    (app.concepts.folder / "broken.safetensors").write_bytes(b"nothing")
    assert app.concepts.names() == ["normal", "opacity"]
    assert "models" in app.info()


def test_a_recipe_from_the_app_replays(app: DinoDiffusionApp, mask: str, studies: Path) -> None:
    result = app.infer(asked("inpaint", mask, seed=4))
    recipe = Recipe.from_dict(result["params"]["candidates"][0]["recipe"])
    concept = app.concepts.find("opacity")
    inputs = {"image": studies / "film0.png", "mask": Path(mask), "concept-opacity": concept}
    again = replay(recipe, app.engine.bundle, inputs)
    assert np.array_equal(again.stored, pixels(result["file"]))


def test_one_candidate_at_a_time_on_the_stock_route_is_said(app: DinoDiffusionApp, mask: str) -> None:
    params = app.infer(asked("variant", mask, candidates=3))["params"]
    assert len(params["candidates"]) == 1 and any("as a job" in warning for warning in params["warnings"])


def test_a_twin_shows_where_it_differs(app: DinoDiffusionApp, mask: str, job_folder: Path) -> None:
    with listening(Heard(), job_folder):
        params = app.infer(asked("twin", mask))["params"]
    assert (job_folder / params["difference_id"]).is_file()
    if params["regions"]:
        found = pixels(job_folder / params["regions_id"])
        assert set(np.unique(found)) - {0} == {region["label"] for region in params["regions"]}


def test_a_twin_without_a_mask_paints_the_lungs(app: DinoDiffusionApp) -> None:
    with listening(Heard()) as heard:
        result = app.infer(asked("twin", "") | {"label": None})
    lungs = app.engine.lungs(app.engine.open(app.datastore().get_image_uri("film0"))).labelmap
    before = pixels(app.datastore().get_image_uri("film0"))
    changed = before != pixels(result["file"])
    assert changed.any() and not changed[~mask_of_lungs(lungs)].any()
    assert heard.shares == sorted(heard.shares)


def test_a_strip_goes_from_one_concept_to_the_other(
    app: DinoDiffusionApp, mask: str, job_folder: Path
) -> None:
    with listening(Heard(), job_folder):
        params = app.infer(asked("strip", mask))["params"]
    assert [candidate["share"] for candidate in params["candidates"]] == [0.0, 0.5, 1.0]
    first, *_, last = (pixels(job_folder / candidate["image"]) for candidate in params["candidates"])
    assert not np.array_equal(first, last)
    assert set(params["trends"]) == {"opacity", "cardiothoracic_ratio"}


def test_a_strip_without_an_end_takes_the_other_concept(app: DinoDiffusionApp, mask: str) -> None:
    request = asked("strip", mask) | {"to": ""}
    assert app.infer(request)["params"]["to"] == "opacity"
