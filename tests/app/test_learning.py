"""Learning a segment from submitted labels: versions, roll-back, and what is worse is not used."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.errors import Cancelled, EmbeddingError
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.embeddings import INDEX, Learnt, slug_of
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.lib.labels import StoredLabel, absent_of, names_of
from monailabel_app.lib.trainers.lessons import LEARNING_SIDE, MOST_CHECKS, MOST_LESSONS, divide, smaller
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import IMAGES, SHAPE, Heard, MakeApp, ellipse, listening, submit
from tests.tiny import smooth_picture

HEART = {"model": "learn_segment", "label": "heart", "name": "Heart"}


def teach(app: DinoDiffusionApp, folder: Path, images: tuple[str, ...] = IMAGES[:1]) -> None:
    for image in images:
        submit(app, image, ellipse().astype(np.uint8), folder)


def test_one_label_teaches_a_segment_that_is_found_at_once(app: DinoDiffusionApp, tmp_path: Path) -> None:
    teach(app, tmp_path)
    with listening(Heard()) as heard:
        learnt = app.train(HEART)
    assert learnt["model"] == "segment_heart" and learnt["activated"] and learnt["examples"] == 1
    assert heard.shares == sorted(heard.shares) and heard.shares[-1] == 1.0 and len(heard.shares) > 20
    assert app.info()["models"]["segment_heart"]["labels"] == {"Heart": 16}
    result = app.infer({"model": "segment_heart", "image": "film0"})
    found = np.asarray(Image.open(result["file"])) == 16
    overlap = 2 * (found & ellipse()).sum() / (found.sum() + ellipse().sum())
    assert overlap > 0.8, "the very image it was learnt from"
    assert result["params"]["labels"][0]["meaning"] == "Heart" and result["params"]["version"] == 1
    both = app.infer({"model": "lungs", "image": "film0", "embeddings": "Heart"})
    labels = np.asarray(Image.open(both["file"]))
    assert np.array_equal(labels == 16, found), "what a person taught lies over the lungs"
    assert both["params"]["uncertainties"].keys() == {"lungs", "Heart"}


def test_what_is_called_otherwise_is_learnt_from_under_both_names(
    app: DinoDiffusionApp, tmp_path: Path
) -> None:
    """The next image comes with the new name, and is corrected and submitted under it."""
    teach(app, tmp_path)
    app.train({**HEART, "name": "My heart"})
    submit(app, "film1", ellipse().astype(np.uint8), tmp_path, {"My heart": 1})
    learnt = app.train({"model": "learn_segment", "label": "My heart"})
    assert learnt["version"] == 2 and learnt["examples"] == 2
    submit(app, "film2", ellipse(row=0.6).astype(np.uint8), tmp_path, {"rib": 1})
    corrected = app.train({"model": "learn_segment", "label": "rib", "name": "My heart"})
    assert corrected["examples"] == 1 and corrected["checks"] == 1, "film0's 'Heart' was a mistake, then"


def test_an_image_without_the_segment_teaches_that(app: DinoDiffusionApp, tmp_path: Path) -> None:
    def found() -> bool:
        result = app.infer({"model": "segment_heart", "image": "film1"})
        return bool((np.asarray(Image.open(result["file"])) == 16).any())

    nothing = np.zeros(SHAPE, np.uint8)
    submit(app, "film1", nothing, tmp_path, absent=["heart"])
    with pytest.raises(RequestError, match="only say that 'heart' is absent"):
        app.train(HEART)
    teach(app, tmp_path)
    submit(app, "film1", nothing, tmp_path)
    untouched = app.train(HEART)
    assert (untouched["examples"], untouched["without"]) == (1, 0) and found()
    submit(app, "film1", nothing, tmp_path, absent=["heart"])
    learnt = app.train(HEART)
    assert (learnt["examples"], learnt["without"]) == (2, 1) and not found()


def test_versions_are_kept_and_rolled_back_to_and_survive_a_restart(
    app: DinoDiffusionApp, make_app: MakeApp, tmp_path: Path
) -> None:
    teach(app, tmp_path)
    app.train(HEART)
    teach(app, tmp_path, IMAGES[1:2])
    assert app.train({**HEART, "seed": 1})["version"] == 2
    app.embeddings.activate("heart", 1)
    (entry,) = app.embeddings.entries()
    assert entry["active"] == 1 and [version["version"] for version in entry["versions"]] == [1, 2]
    assert entry["versions"][1]["images"] == ["film1", "film0"] and entry["fits"]
    assert app.infer({"model": "segment_heart", "image": "film2"})["params"]["version"] == 1
    again = make_app()
    assert again.embeddings.entries() == [entry] and "segment_heart" in again.info()["models"]
    with pytest.raises(NotFound, match="has no version 7; it has 1, 2"):
        app.embeddings.activate("Heart", 7)
    with pytest.raises(NotFound, match="No segment 'spleen' has been learnt; there is Heart"):
        app.embeddings.activate("spleen", 1)


def test_what_is_worse_on_labels_kept_back_is_kept_and_not_used(
    app: DinoDiffusionApp, tmp_path: Path
) -> None:
    teach(app, tmp_path, IMAGES[:3])
    first = app.train(HEART)
    assert (first["examples"], first["checks"], first["activated"]) == (2, 1, True)
    assert first["dice"] is not None and first["before"] is None
    kept_back = app.embeddings.get("heart").checks
    for image in set(IMAGES[:3]) - set(kept_back):
        submit(app, image, ellipse(row=0.25, column=0.8).astype(np.uint8), tmp_path)
    second = app.train(HEART)
    assert not second["activated"] and second["dice"] < second["before"] == first["dice"]
    assert "is kept, and not used" in second["warnings"][0]
    assert app.embeddings.get("heart").active == 1
    assert len(app.embeddings.get("heart").versions) == 2
    assert app.info()["train_stats"]["learn_segment"]["Heart"]["active"] == 1


def test_a_training_can_be_stopped_and_leaves_nothing(app: DinoDiffusionApp, tmp_path: Path) -> None:
    teach(app, tmp_path)
    for stop_at in (1, 3, 12):
        with listening(Heard(stop_at)), pytest.raises(Cancelled):
            app.train(HEART)
    assert app.embeddings.entries() == [] and "segment_heart" not in app.info()["models"]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({}, "Say what to learn"),
        ({"label": 3}, "Say what to learn"),
        ({"label": "spleen"}, "No submitted label holds 'spleen'; they hold Heart"),
        ({"label": "Heart", "name": "x" * 49}, "name='x"),
        ({"label": "Heart", "images": ["film3"]}, "Image 'film3' has no submitted label"),
        ({"label": ["Heart"]}, "label="),
    ],
)
def test_what_cannot_be_learnt_ends_in_a_sentence(
    app: DinoDiffusionApp, tmp_path: Path, request_: dict[str, object], sentence: str
) -> None:
    teach(app, tmp_path)
    with pytest.raises(RequestError, match=sentence):
        app.train({"model": "learn_segment", **request_})


def test_without_labels_there_is_nothing_to_learn(app: DinoDiffusionApp) -> None:
    with pytest.raises(RequestError, match="label an image and submit it first"):
        app.train(HEART)


def test_a_value_teaches_too_and_every_segment_gets_a_value_of_its_own(
    app: DinoDiffusionApp, tmp_path: Path
) -> None:
    teach(app, tmp_path)
    app.train(HEART)
    learnt = app.train({"model": "learn_segment", "label": 1, "name": "left-Clavicle 2"})
    assert learnt["model"] == "segment_left_clavicle_2"
    assert [entry["value"] for entry in app.embeddings.entries()] == [16, 17]


@pytest.mark.parametrize("name", ["../../x", "Cœur", "心臓", "/etc", "a.b"])
def test_a_name_in_any_language_never_leaves_its_folder(app: DinoDiffusionApp, name: str) -> None:
    learnt = app.embeddings.plan(name)
    assert re.fullmatch(r"[a-z0-9_]+", learnt.slug)
    assert slug_of(learnt.slug) == learnt.slug, "it is found by its task's name too"


def test_names_are_told_apart() -> None:
    assert slug_of("Left Clavicle") == slug_of("left-clavicle") == "left_clavicle"
    assert len({slug_of(name) for name in ("Herz", "Hérz", "心臓", "肺")}) == 4


def test_a_segment_in_a_further_layer_is_found(app: DinoDiffusionApp, tmp_path: Path) -> None:
    """Clients submit segments that overlap under final, final_2 and so on."""
    submit(app, "film0", ellipse(), tmp_path)
    submit(app, "film0", ellipse(row=0.6), tmp_path, {"Tube": 1}, "final_2")
    learnt = app.train({"model": "learn_segment", "label": "tube"})
    found = np.asarray(Image.open(app.infer({"model": learnt["model"], "image": "film0"})["file"])) == 16
    meant, other = ((found & ellipse(row=row)).sum() for row in (0.6, 0.5))
    assert meant > other


def test_a_damaged_index_harms_no_other(app: DinoDiffusionApp, tmp_path: Path) -> None:
    teach(app, tmp_path)
    app.train(HEART)
    broken = app.embeddings.folder / "broken"
    broken.mkdir()
    (broken / INDEX).write_text('{"name": "bro')
    assert [entry["name"] for entry in app.embeddings.entries()] == ["Heart"]
    (app.embeddings.folder / "heart" / "v0001.safetensors").write_bytes(b"nothing")
    app.embeddings._loaded.clear()
    assert not app.embeddings.fits(app.embeddings.get("heart"))
    assert "segment_heart" not in app.info()["models"]
    with pytest.raises(EmbeddingError, match="cannot be read as a segment embedding"):
        app.embeddings.open("heart")
    shutil.rmtree(app.embeddings.folder / "heart")
    assert "segment_heart" not in app.info()["models"] and app.embeddings.entries() == []


@pytest.mark.parametrize(
    ("info", "names"),
    [
        ({"label_info": [{"name": "a", "idx": 2}, {"name": "b"}]}, {"a": 2, "b": 2}),
        ({"label_info": [{"name": "a"}, {"name": "b"}]}, {"a": 1, "b": 2}),
        ({"label_names": {"a": 3}, "label_info": [{"name": "b"}]}, {"a": 3}),
        ({"params": {"label_names": {"a": 16}}}, {"a": 16}),
        ({"label_info": "nonsense", "params": 3, "label_names": {"a": "x"}}, {}),
        ({}, {}),
    ],
)
def test_names_are_read_from_what_clients_send(info: dict[str, object], names: dict[str, int]) -> None:
    assert names_of(info) == names


@pytest.mark.parametrize(
    ("info", "absent"),
    [
        ({"label_absent": ["Heart"], "params": {"label_absent": ["tube"]}}, ("Heart", "tube")),
        ({"label_absent": "Heart", "params": 3}, ()),
        ({}, ()),
    ],
)
def test_what_is_absent_is_read_from_what_clients_send(
    info: dict[str, object], absent: tuple[str, ...]
) -> None:
    assert absent_of(info) == absent
    assert StoredLabel("film", Path(), {}, 0, absent=absent).lacks(" heart") == ("Heart" in absent)


def test_names_nobody_said_are_those_of_the_package() -> None:
    label = StoredLabel("film", Path("film.png"), {"Tip of tube": 4}, 0)
    assert label.value_of("tip of TUBE") == 4 and label.value_of("left lung") == 2
    assert label.value_of("9") == 9 and label.value_of("spleen") is None
    assert label.name_of(4) == "Tip of tube" and label.name_of(1) == "right lung"


def test_images_kept_back_stay_so_whatever_comes_later() -> None:
    learnt = Learnt("Heart", 16)
    example = Radiograph.from_array(smooth_picture(0, *SHAPE)), ellipse().astype(np.uint8)

    def divided(count: int) -> tuple[set[str], set[str]]:
        labels = [StoredLabel(f"film{k}", Path(), {}, k) for k in range(count)]
        lessons, checks = divide(learnt, labels, lambda label: example)
        return set(lessons), {label.image for label in checks}

    assert divided(2) == ({"film0", "film1"}, set())
    learnt_from, checks = divided(3)
    assert checks == {"film2"}
    for count in (4, 5, 9, 100):
        lessons, checks = divided(count)
        assert not checks & learnt_from and not lessons & checks
        assert len(lessons) <= MOST_LESSONS and len(checks) <= MOST_CHECKS
        learnt_from |= lessons
    assert "film2" in learnt.checks


def test_a_large_image_is_learnt_from_at_a_smaller_size() -> None:
    big = Radiograph.from_array(smooth_picture(0, 2100, 900))
    reduced, mask = smaller((big, ellipse((2100, 900)).astype(np.uint8) * 16))
    assert max(reduced.shape) <= LEARNING_SIDE and mask.shape == reduced.shape
    assert reduced.source.sha256 == big.source.sha256 and set(np.unique(mask)) == {0, 16}
    assert abs(reduced.pixels.mean() - big.pixels.mean()) < 0.01
    small = (Radiograph.from_array(smooth_picture(0, *SHAPE)), mask)
    assert smaller(small) is small
