"""Batch inference: over the worklist, resumable, and one odd image does not end it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from PIL import Image

from dino_diffusion.errors import Cancelled
from monailabel_app.lib.errors import RequestError
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import IMAGES, SHAPE, Heard, MakeApp, ellipse, listening, submit, write_picture

LUNGS = {"model": "lungs"}


def statuses(app: DinoDiffusionApp, **request: Any) -> dict[str, str]:
    return {image: found["status"] for image, found in app.batch_infer({**LUNGS, **request}).items()}


def test_new_images_are_labelled_and_results_stored(app: DinoDiffusionApp, tmp_path: Path) -> None:
    submit(app, "film1", ellipse(), tmp_path)
    app.worklist.skip("film2", "lateral")
    with listening(Heard()) as heard:
        assert statuses(app) == {"film0": "done", "film3": "done"}
    assert heard.shares == sorted(heard.shares) and heard.shares[-1] == 1.0
    stored = app.datastore().get_label_uri("film0", "original")
    assert np.asarray(Image.open(stored)).shape == SHAPE
    assert app.datastore().get_label_info("film0", "original")["model"] == "lungs"


def test_a_batch_that_was_stopped_goes_on_where_it_was(
    app: DinoDiffusionApp, make_app: MakeApp, studies: Path
) -> None:
    for number in range(3):
        write_picture(studies / f"later{number}.png", 90 + number)
    app.datastore().refresh()
    with listening(Heard(stop_at=22)), pytest.raises(Cancelled):
        app.batch_infer(LUNGS)
    restarted = make_app()
    found = list(statuses(restarted).values())
    assert found == sorted(found, reverse=True) and 0 < found.count("passed") < len(found)
    assert set(statuses(restarted).values()) == {"passed"}


def test_other_work_another_file_or_a_lost_label_is_done_again(app: DinoDiffusionApp, studies: Path) -> None:
    statuses(app)
    assert set(statuses(app, zones=True).values()) == {"done"}
    write_picture(studies / "film0.png", 33)
    app.datastore().remove_label("film1", "original")
    assert statuses(app) == {"film0": "done", "film1": "done", "film2": "passed", "film3": "passed"}
    assert set(statuses(app, again=True).values()) == {"done"}


def test_one_odd_image_does_not_end_it(app: DinoDiffusionApp, studies: Path) -> None:
    (studies / "broken.png").write_bytes(b"no picture")
    app.datastore().refresh()
    found = app.batch_infer(LUNGS)
    assert found["broken"]["status"] == "failed" and "no image that can be read" in found["broken"]["error"]
    assert [found[image]["status"] for image in IMAGES] == ["done"] * len(IMAGES)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"model": "variant"}, "A batch stores labels, which 'variant' does not make"),
        ({"model": "nosuch"}, "A batch stores labels"),
        ({"label_tag": "final"}, "never writes submitted labels"),
        ({"label_tag": "../x"}, "label_tag="),
        ({"images": ["film0", "nobody"]}, "there is no 'nobody'"),
        ({"images": "most"}, "images='most'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    app: DinoDiffusionApp, request_: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RequestError, match=sentence):
        app.batch_infer({**LUNGS, **request_})


def test_the_stock_clients_request_is_understood(app: DinoDiffusionApp) -> None:
    stock = {
        "images": BatchInferImageType.IMAGES_ALL, "device": "cuda", "multi_gpu": True, "gpus": "all",
        "logging": "WARNING", "save_label": True, "label_tag": "original", "max_workers": 1,
        "max_batch_size": 2,
    }  # fmt: skip
    assert statuses(app, **stock) == {"film0": "done", "film1": "done"}
