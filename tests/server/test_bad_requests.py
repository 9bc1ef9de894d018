"""No bad request gives a 500 or a silent 200: each gets a fitting 4xx and one sentence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from monailabel_app.server.errors import without_folders
from tests.server.conftest import Here, settings_for

NOWHERE = "00000000-0000-4000-8000-000000000000"
PNG = ("x.png", b"no picture", "image/png")


def job(**wanted: Any) -> dict[str, Any]:
    return {
        "data": {"request": json.dumps({"kind": "infer", "model": "segment", "image": "chest1", **wanted})}
    }


CASES: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/infer/nosuch?image=chest1", {}, 404),
    ("POST", "/infer/segment?image=nosuch", {}, 404),
    ("POST", "/infer/segment", {}, 400),
    ("POST", "/infer/segment?image=/etc/hostname", {}, 404),
    ("POST", "/infer/segment?image=../chest1", {}, 404),
    ("POST", f"/infer/segment?image=chest1&session_id={NOWHERE}", {}, 404),
    ("POST", "/infer/segment?image=chest1&session_id=../x", {}, 404),
    ("POST", "/infer/segment?image=chest1&output=nosuch", {}, 422),
    ("POST", "/infer/segment?image=chest1", {"data": {"params": "{"}}, 400),
    ("POST", "/infer/segment?image=chest1", {"data": {"params": "[]"}}, 400),
    ("POST", "/infer/segment?image=chest1", {"data": {"params": '{"image": "/etc/hostname"}'}}, 400),
    ("POST", "/infer/segment?image=chest1", {"data": {"params": '{"label": "/etc/hostname"}'}}, 400),
    ("POST", "/infer/segment?image=chest1", {"data": {"params": '{"mask": "nosuch"}'}}, 404),
    ("POST", "/infer/segment?image=chest1", {"data": {"params": '{"steps": "many"}'}}, 400),
    ("POST", "/infer/segment?image=chest1", {"data": {"params": '{"steps": []}'}}, 400),
    ("POST", "/infer/segment", {"files": {"file": ("x.png", b"", "image/png")}}, 400),
    ("POST", "/jobs", {}, 422),
    ("POST", "/jobs", {"data": {"request": "{"}}, 400),
    ("POST", "/jobs", {"data": {"request": "[1]"}}, 400),
    ("POST", "/jobs", job(kind="dance"), 422),
    ("POST", "/jobs", job(model=5), 422),
    ("POST", "/jobs", job(model="nosuch"), 404),
    ("POST", "/jobs", job(image="nosuch"), 404),
    ("POST", "/jobs", job(image=None), 400),
    ("POST", "/jobs", job(image=["chest1"]), 422),
    ("POST", "/jobs", job(session_id=NOWHERE), 404),
    ("POST", "/jobs", job(params=[]), 422),
    ("POST", "/jobs", job(params={"file": "x"}), 400),
    ("POST", "/jobs", job(unheard="of"), 422),
    ("POST", "/jobs", job(kind="train", model="nosuch"), 404),
    ("POST", "/jobs", job(kind="train", model="learn", params={"images": ["nosuch"]}), 404),
    ("POST", "/jobs", job(kind="train", model="learn", params={"images": "chest1"}), 400),
    ("GET", "/jobs/nosuch", {}, 404),
    ("GET", "/jobs/nosuch/events", {}, 404),
    ("GET", "/jobs/nosuch/preview", {}, 404),
    ("GET", "/jobs/nosuch/files/x", {}, 404),
    ("DELETE", "/jobs/nosuch", {}, 404),
    ("GET", "/jobs/..%2F..%2Ftoken", {}, 404),
    ("PUT", "/session/", {}, 422),
    ("PUT", "/session/?uncompress=true", {"files": {"files": PNG}}, 400),
    ("PUT", "/session/?expiry=-5", {"files": {"files": PNG}}, 422),
    ("PUT", "/session/", {"files": [("files", PNG), ("files", PNG)]}, 400),
    ("PUT", "/session/", {"files": {"files": ("x.png", b"", "image/png")}}, 400),
    ("GET", f"/session/{NOWHERE}", {}, 404),
    ("GET", "/session/..", {}, 404),
    ("GET", "/session/..%2f..%2ftoken?image=true", {}, 404),
    ("DELETE", f"/session/{NOWHERE}", {}, 404),
    ("GET", "/datastore/?output=nosuch", {}, 422),
    ("GET", "/datastore/image?image=nosuch", {}, 404),
    ("GET", "/datastore/image?image=/etc/hostname", {}, 404),
    ("GET", "/datastore/image", {}, 422),
    ("HEAD", "/datastore/image?image=nosuch", {}, 404),
    ("HEAD", "/datastore/image?image=chest1&check_sum=nosuch:1", {}, 400),
    ("HEAD", "/datastore/image?image=chest1&check_sum=00", {}, 404),
    ("GET", "/datastore/image/info?image=nosuch", {}, 404),
    ("PUT", "/datastore/image/info?image=nosuch", {}, 404),
    ("PUT", "/datastore/image/info?image=chest1", {"data": {"info": "5"}}, 400),
    ("PUT", "/datastore/image/info?image=chest1", {"data": {"info": '{"path": "x"}'}}, 400),
    ("PUT", "/datastore/image?image=../outside/x", {"files": {"file": PNG}}, 400),
    ("PUT", "/datastore/image?image=a/b", {"files": {"file": PNG}}, 400),
    ("PUT", "/datastore/image?image=good", {"files": {"file": PNG}, "data": {"params": "{"}}, 400),
    ("PUT", "/datastore/image?image=good", {}, 422),
    ("PUT", "/datastore/image?image=good", {"files": {"file": PNG}}, 400),
    ("PUT", "/datastore/image?image=good", {"files": {"file": ("x.html", b"<html>")}}, 400),
    ("DELETE", "/datastore/image?id=nosuch", {}, 404),
    ("PUT", "/datastore/label?image=nosuch", {"files": {"label": PNG}}, 404),
    ("PUT", "/datastore/label?image=chest1&tag=../../outside", {"files": {"label": PNG}}, 400),
    ("PUT", "/datastore/label?image=chest1", {"files": {"label": PNG}}, 400),
    ("PUT", "/datastore/label?image=chest1", {"files": {"label": PNG}, "data": {"params": "x"}}, 400),
    ("PUT", "/datastore/label?image=chest1", {}, 422),
    ("GET", "/datastore/label?label=chest1&tag=final", {}, 404),
    ("GET", "/datastore/label?label=chest1&tag=../..", {}, 400),
    ("GET", "/datastore/label?label=../chest1&tag=final", {}, 404),
    ("HEAD", "/datastore/label?image=chest1&tag=final", {}, 404),
    ("DELETE", "/datastore/label?id=chest1&tag=final", {}, 404),
    ("GET", "/datastore/label/info?label=chest1&tag=final", {}, 404),
    ("PUT", "/datastore/label/info?label=chest1&tag=final", {}, 404),
    ("GET", "/datastore/dataset", {}, 404),
    ("GET", "/datastore/dataset?limit_cases=0", {}, 422),
    ("POST", "/datastore/skip?image=nosuch", {"json": {"reason": "bad"}}, 404),
    ("POST", "/datastore/skip?image=chest1", {"json": {"reason": ""}}, 422),
    ("POST", "/datastore/skip?image=chest1", {"json": {}}, 422),
    ("POST", "/datastore/review?image=chest1", {"json": {"status": "nosuch"}}, 400),
    ("POST", "/datastore/review?image=chest1", {"json": {"status": 5}}, 422),
    ("POST", "/activelearning/nosuch", {}, 404),
    ("POST", "/activelearning/first", {"content": b"{"}, 422),
    ("POST", "/activelearning/first", {"json": [1]}, 422),
    ("POST", "/activelearning/first", {"json": {"strategy": "other"}}, 400),
    ("POST", "/train/nosuch", {}, 404),
    ("POST", "/train/learn", {"json": [1]}, 422),
    ("POST", "/train/learn", {"json": {"model": "other"}}, 400),
    ("POST", "/train/learn", {"json": {"where": "/etc"}}, 400),
    ("GET", "/train/", {}, 404),
    ("GET", "/train/?check_if_running=maybe", {}, 422),
    ("POST", "/batch/infer/nosuch", {}, 404),
    ("POST", "/batch/infer/segment?images=nosuch", {}, 422),
    ("POST", "/batch/infer/segment", {"json": {"label_tag": "../x"}}, 400),
    ("GET", "/batch/infer", {}, 404),
    ("POST", "/scoring/nosuch", {}, 404),
    ("GET", "/scoring/", {}, 404),
    ("POST", "/embeddings/nosuch/activate", {"json": {"version": 1}}, 404),
    ("POST", "/embeddings/heart/activate", {"json": {"version": "one"}}, 422),
    ("GET", "/logs/?lines=0", {}, 422),
    ("GET", "/logs/..%2Ftoken", {}, 404),
    ("GET", "/model/segment", {}, 404),
    ("GET", "/proxy/dicom/wado/x", {}, 404),
    ("DELETE", "/info/", {}, 405),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with Here(settings_for(tmp_path_factory.mktemp("bad"))) as here:
        yield here


@pytest.mark.parametrize(("method", "path", "more", "status"), CASES, ids=lambda case: str(case)[:70])
def test_a_bad_request(running: Here, method: str, path: str, more: dict[str, Any], status: int) -> None:
    answer = running.request(method, path, **more)
    assert answer.status_code == status, answer.text
    if method != "HEAD":
        (name, sentence), *others = answer.json().items()
        assert (name, others) == ("detail", []) and isinstance(sentence, str)
        assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 300
        assert str(running.settings.state) not in sentence


def test_nothing_was_written_outside(running: Here) -> None:
    top = Path(running.settings.studies).parent
    assert {path.name for path in top.iterdir()} == {"studies", "state"}


def test_a_fault_of_the_model_tells_neither_path_nor_patient(running: Here) -> None:
    answer = running.post("/infer/segment?image=chest1", data={"params": '{"crash": 1}'})
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["detail"] and "meier" not in answer.text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/home/anna/my studies/x.png: is no radiograph.", "x.png: is no radiograph."),
        ("Cannot read '/tmp/a/b.dcm'; send another.", "Cannot read 'b.dcm'; send another."),
        ("Choose lungs and/or regions, 1/2 of them.", "Choose lungs and/or regions, 1/2 of them."),
        ("nih/effusion is no concept.", "nih/effusion is no concept."),
    ],
)
def test_errors_tell_files_by_name_alone(said: str, told: str) -> None:
    assert without_folders(said) == told


def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    with Here(settings_for(tmp_path, max_upload=100_000)) as here:
        large = {"label": ("x.png", io.BytesIO(b"0" * 200_000), "image/png")}
        answer = here.put("/datastore/label?image=chest1", files=large)
        assert answer.status_code == 413 and "--max-upload-mb" in answer.json()["detail"]
        # Sent in pieces, its size is not announced.
        streamed = here.post("/activelearning/first", content=(b" " * 50_000 for _ in range(4)))
        assert streamed.status_code == 413 and isinstance(streamed.json()["detail"], str)


def test_a_field_over_the_limit_is_refused(running: Here) -> None:
    answer = running.post("/infer/segment?image=chest1", files={"params": (None, "x" * 5_000_000)})
    assert answer.status_code in (400, 413) and isinstance(answer.json()["detail"], str)
