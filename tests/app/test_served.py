"""The app behind its server, in this process: what clients of either kind see of it over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from starlette.testclient import TestClient

from monailabel_app.lib.engine import Engine
from monailabel_app.main import DinoDiffusionApp
from monailabel_app.server.app import configure_monailabel, create_app
from monailabel_app.server.settings import ServerSettings
from tests.app.conftest import SHAPE, ellipse, write_concepts, write_mask
from tests.core.radiograph.phantom import chest, dicom

TOKEN = "a-token-of-enough-letters"


@pytest.fixture
def client(tmp_path: Path, studies: Path, engine: Engine) -> Iterator[TestClient]:
    state = tmp_path / "state"
    write_concepts(engine, state / "concepts")
    dicom(studies / "shot.dcm", chest())
    settings = ServerSettings(str(studies), state, TOKEN, conf={"state": str(state)})
    configure_monailabel(settings)
    app = DinoDiffusionApp(str(settings.app), settings.studies, settings.conf, engine)
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Client-Id": "me"}
    with TestClient(create_app(settings, app), base_url="http://127.0.0.1:8000", headers=headers) as client:
        yield client
    app.datastore()._observer.stop()  # type: ignore[attr-defined]


def job(client: TestClient, model: str, kind: str = "infer", label: Path | None = None, **more: Any) -> Any:
    """Submits one and waits for its end."""
    asked = {"kind": kind, "model": model, "image": "film0" if kind == "infer" else None, **more}
    files = {"label": (label.name, label.read_bytes())} if label else None
    answer = client.post("/jobs", data={"request": json.dumps(asked)}, files=files)
    assert answer.status_code == 202, answer.text
    here = f"/jobs/{answer.json()['id']}"
    while (state := client.get(here).json())["state"] in ("queued", "running"):
        time.sleep(0.02)
    return state


def test_the_stock_clients_inference(client: TestClient) -> None:
    stock = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    answer = client.post("/infer/lungs?image=film0&output=image", data={"params": json.dumps(stock)})
    assert answer.status_code == 200 and answer.content.startswith(b"NRRD")
    both = client.post("/infer/lungs?image=film0", data={"params": "{}"})
    assert both.headers["content-type"].startswith("multipart/form-data") and b'"label_names"' in both.content
    params = client.post("/infer/lungs?image=film0&output=json").json()
    assert params["label_names"] == {"right lung": 1, "left lung": 2}


def test_dicom_segmentation_when_asked_and_possible(client: TestClient) -> None:
    # The regions of a picture are never empty, which a DICOM segmentation cannot be.
    answer = client.post("/infer/regions?image=shot&output=dicom_seg")
    assert answer.status_code == 200, answer.text
    assert pydicom.dcmread(BytesIO(answer.content)).Modality == "SEG"
    refused = client.post("/infer/regions?image=film0&output=dicom_seg")
    assert refused.status_code == 400 and "needs a DICOM radiograph" in refused.json()["detail"]


def test_a_session_is_uploaded_once_and_asked_many_times(client: TestClient, studies: Path) -> None:
    content = (studies / "film1.png").read_bytes()
    session = client.put("/session/", files={"files": ("film.png", content)}).json()["session_id"]
    for granularity in (0, 0.5):
        params = json.dumps({"granularity": granularity, "point": [20, 30]})
        answer = client.post(f"/infer/regions?session_id={session}&output=image", data={"params": params})
        assert np.asarray(Image.open(BytesIO(answer.content)))[30, 20] == 16


def test_a_job_gives_every_candidate_as_files(client: TestClient, tmp_path: Path, studies: Path) -> None:
    params = {"concept": "opacity", "candidates": 2, "steps": 2}
    done = job(client, "inpaint", label=write_mask(tmp_path / "mask.png"), params=params)
    assert done["state"] == "done" and done["progress"] == 1, done
    names = {file["name"] for file in done["files"]}
    before = np.asarray(Image.open(studies / "film0.png"))
    for candidate in done["params"]["candidates"]:
        assert {candidate["image"], candidate["mask_id"], candidate["recipe_id"]} <= names
        content = client.get(f"/jobs/{done['id']}/files/{candidate['image']}").content
        after = np.asarray(Image.open(BytesIO(content)))
        assert np.array_equal(before[~ellipse()], after[~ellipse()]) and not np.array_equal(before, after)


@pytest.mark.parametrize("model", ["variant", "twin", "strip", "regions", "lungs"])
def test_every_task_is_a_job(client: TestClient, model: str) -> None:
    params = {
        "variant": {"steps": 1},
        "twin": {"steps": 1, "candidates": 2, "concept": "normal"},
        "strip": {"steps": 1, "frames": 2, "from": "normal"},
    }
    done = job(client, model, params=params.get(model, {}))
    assert done["state"] == "done", done["error"]
    assert done["files"] and all(file["bytes"] for file in done["files"])


def test_a_submitted_label_teaches_and_versions_are_chosen(client: TestClient, tmp_path: Path) -> None:
    label = write_mask(tmp_path / "label.png")
    info = {"label_info": [{"name": "Heart", "idx": 1}]}
    for image in ("film0", "film1"):
        answer = client.put(
            f"/datastore/label?image={image}&tag=final",
            data={"params": json.dumps(info)},
            files={"label": ("label.png", label.read_bytes())},
        )
        assert answer.status_code == 200, answer.text
    asked = {"label": "Heart", "name": "My heart", "images": ["film0"]}
    first = job(client, "learn_segment", "train", params=asked)
    assert first["state"] == "done" and first["params"]["model"] == "segment_my_heart", first
    assert job(client, "segment_my_heart")["params"]["label_names"] == {"My heart": 16}
    second = job(client, "learn_segment", "train", params={**asked, "images": ["film0", "film1"]})
    assert second["params"]["version"] == 2
    (entry,) = client.get("/embeddings").json()
    assert entry["active"] == 2 and entry["versions"][1]["images"] == ["film1", "film0"]
    assert client.post("/embeddings/My heart/activate", json={"version": 1}).status_code == 200
    assert client.get("/embeddings").json()[0]["active"] == 1
    assert client.post("/embeddings/My heart/activate", json={"version": 9}).status_code == 404
    assert "segment_my_heart" in client.get("/info/").json()["models"]


def test_the_worklist_over_http(client: TestClient, tmp_path: Path) -> None:
    mine = client.post("/activelearning/first", json={}).json()["id"]
    yours = client.post("/activelearning/first", json={}, headers={"X-Client-Id": "you"}).json()["id"]
    assert (mine, yours) == ("film0", "film1")
    assert client.post("/datastore/skip?image=film1", json={"reason": "lateral"}).status_code == 200
    files = {"label": ("label.png", write_mask(tmp_path / "label.png").read_bytes())}
    assert client.put("/datastore/label?image=film0&tag=final", files=files).status_code == 200
    review = {"status": "approved", "comment": "good"}
    assert client.post("/datastore/review?image=film0", json=review).status_code == 200
    assert client.post("/datastore/review?image=film2", json=review).status_code == 400
    client.post("/infer/lungs?image=film2&output=json")
    entries = {entry["image"]: entry for entry in client.get("/worklist").json()}
    assert {image: entries[image]["status"] for image in ("film0", "film1", "film2")} == {
        "film0": "reviewed", "film1": "skipped", "film2": "new",
    }  # fmt: skip
    assert entries["film1"]["reason"] == "lateral" and 0 < entries["film2"]["uncertainty"] <= 1
    assert entries["film0"]["labels"] == ["final"]


def test_a_batch_over_the_worklist(client: TestClient) -> None:
    asked = {"label_tag": "original", "zones": True}
    for expected in ("done", "passed"):
        answer = client.post("/batch/infer/lungs?images=unlabeled&run_sync=true", json=asked)
        assert answer.status_code == 200, answer.text
        assert {found["status"] for found in answer.json().values()} == {expected}
    label = client.get("/datastore/label?label=film0&tag=original").content
    assert np.asarray(Image.open(BytesIO(label))).shape == SHAPE


def test_concepts_and_unknown_ones(client: TestClient, tmp_path: Path) -> None:
    concepts = {entry["name"]: entry for entry in client.get("/concepts").json()}
    assert {"name", "title", "licence"} <= concepts["opacity"].keys()
    failed = job(client, "inpaint", label=write_mask(tmp_path / "mask.png"), params={"concept": "nosuch"})
    assert failed["state"] == "failed" and "There is no concept 'nosuch'" in failed["error"]
