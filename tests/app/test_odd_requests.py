"""Whatever a request holds, it ends in a result or in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dino_diffusion.errors import DinoDiffusionError
from monailabel_app.main import DinoDiffusionApp
from tests.app.conftest import write_mask

MODELS = ("lungs", "regions", "inpaint", "variant", "twin", "strip")
ODD: tuple[Any, ...] = (
    "", "x", -1, 10**30, 1e-300, float("nan"), "NaN", [], [None], {"a": 1}, "1,2", "../x", "\x00", "x" * 5000,
)  # fmt: skip
CHEAP = {"steps": 1, "frames": 2, "candidates": 2, "concept": "normal", "from": "normal", "to": "opacity"}


@pytest.mark.parametrize("model", MODELS)
def test_odd_settings(app: DinoDiffusionApp, model: str, tmp_path: Path) -> None:
    mask = str(write_mask(tmp_path / "mask.png"))
    names = [
        *app.info()["models"][model]["config"],
        "result_extension",
        "result_dtype",
        "label_tag",
        "nosuch",
    ]
    answered = 0
    for name in names:
        for value in ODD:
            request = {"model": model, "image": "film0", "label": mask, **CHEAP, name: value}
            try:
                result = app.infer(request)
            except DinoDiffusionError as error:
                said = str(error)
                assert "\n" not in said and 10 < len(said) < 600, said[:700]
                continue
            json.dumps(result["params"])
            Path(result["file"]).unlink()
            answered += 1
    assert answered >= len(names) - 2, "most settings may be left empty"


@pytest.mark.parametrize("value", ODD)
def test_odd_trainings_batches_and_samples(app: DinoDiffusionApp, value: Any) -> None:
    for name in ("label", "name", "images", "seed"):
        with pytest.raises(DinoDiffusionError):
            app.train({"model": "learn_segment", "label": "x", name: value})
    for request in ({"images": value}, {"label_tag": value}, {"max_batch_size": value}, {"again": value}):
        try:
            app.batch_infer({"model": "variant", **request})
        except DinoDiffusionError:
            continue
    for request in ({"strategy": value}, {"strategy": "first", "client_id": value}):
        try:
            assert isinstance(app.next_sample(request), dict)
        except DinoDiffusionError:
            continue
