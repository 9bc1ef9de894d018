"""Whatever is sent to the real app's models: a result or a 4xx with a sentence, never a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monailabel_app.lib.engine import Engine
from monailabel_app.main import DinoDiffusionApp
from tests.core.radiograph.phantom import chest, dicom
from tests.server.conftest import Here, make_label, make_studies, settings_for
from tests.tiny import tiny_bundle

pytestmark = pytest.mark.slow
MODELS = ("lungs", "regions", "inpaint", "variant", "twin", "strip")
FAST = {"steps": 1, "frames": 2}
"""Not made up, so that a result takes a moment."""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.sampled_from(
        ["healthy", "none", "0.5", "-1", "1e999", "lungs", "final", "right lung", "true", "[3, 4]"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("fuzz")
    given = settings_for(folder)
    make_studies(Path(given.studies), ("chest1",), size=64)
    app = DinoDiffusionApp(str(given.app), given.studies, {"state": str(folder)}, Engine(tiny_bundle()))
    with Here(given, app) as client:
        yield client


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_label(tmp_path_factory.mktemp("mask") / "mask.png", size=64).read_bytes()


def sensible(answer: Any) -> bool:
    if answer.status_code == 200:
        return True
    told = answer.json()
    if "/inputs/" in answer.text or "/requests/" in answer.text:
        return False
    return 400 <= answer.status_code < 500 and set(told) == {"detail"} and isinstance(told["detail"], str)


@pytest.mark.parametrize("model", MODELS)
def test_made_up_settings(here: Here, mask: bytes, model: str) -> None:
    names = sorted(set(here.get("/info/").json()["models"][model]["config"]) - set(FAST))
    known = st.dictionaries(st.sampled_from([*names, "result_extension", "device"]), values, max_size=3)

    @given(known | st.dictionaries(st.text(max_size=6), values, max_size=3), st.booleans())
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def answered(params: dict[str, Any], with_mask: bool) -> None:
        files = {"label": ("mask.png", mask, "image/png")} if with_mask else None
        sent = {"params": json.dumps({"candidates": 1, **params, **FAST})}
        answer = here.post(f"/infer/{model}?image=chest1&output=json", data=sent, files=files)
        assert sensible(answer), (params, answer.status_code, answer.text)

    answered()


def odd_files(folder: Path) -> dict[str, bytes]:
    """Uploads that are no radiograph, by file name."""
    whole = make_label(folder / "x.png", size=64).read_bytes()
    dicom(folder / "x.dcm", chest())
    study = (folder / "x.dcm").read_bytes()
    return {
        "text.png": b"no picture at all",
        "cut.png": whole[:-30],
        "cut.dcm": study[: len(study) // 2],
        "head.dcm": study[:200],
        "wrong.nii.gz": b"\x1f\x8b" + bytes(100),
        "wrong.nrrd": b"NRRD0004\ntype: short\n",
        "noending": study[:1000],
        "zeros.dcm": bytes(4096),
        "page.html": b"<html></html>",
        "list.csv": b"a,b\n1,2\n",
    }


def test_uploads_that_are_no_radiograph(here: Here, tmp_path: Path) -> None:
    for name, content in odd_files(tmp_path).items():
        for model in ("lungs", "variant"):
            answer = here.post(f"/infer/{model}?output=json", files={"file": (name, content)})
            assert answer.status_code == 400 and sensible(answer), (name, answer.status_code, answer.text)
        made = here.put("/session/", files={"files": (name, content)})
        assert made.status_code == 200
        answer = here.post(f"/infer/lungs?session_id={made.json()['session_id']}&output=json")
        assert answer.status_code == 400 and sensible(answer), (name, answer.text)


def test_masks_that_do_not_fit(here: Here, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, content in {
        "small.png": make_label(tmp_path / "small.png", size=24).read_bytes(),
        "empty.png": make_label(tmp_path / "empty.png", size=64, value=0).read_bytes(),
        "noise.png": rng.bytes(500),
        "text.nrrd": b"NRRD0004\nbroken",
    }.items():
        answer = here.post(
            "/infer/inpaint?image=chest1&output=json",
            data={"params": json.dumps(FAST)},
            files={"label": (name, content)},
        )
        assert answer.status_code == 400 and sensible(answer), (name, answer.status_code, answer.text)
