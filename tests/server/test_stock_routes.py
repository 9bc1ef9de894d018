"""MONAI Label's own routes through our server, in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.server.conftest import IMAGES, Here, make_label, settings_for


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with Here(settings_for(tmp_path_factory.mktemp("stock"))) as client:
        yield client


def test_infer_answers_in_every_form(here: Here, tmp_path: Path) -> None:
    both = here.post("/infer/segment?image=chest1", data={"params": '{"result_extension": ".nrrd"}'})
    assert both.headers["content-type"].startswith("multipart/form-data")
    assert b'name="params"' in both.content and b'name="image"' in both.content
    assert here.post("/infer/segment?image=chest1&output=json").json()["label_names"] == {"bright": 1}
    image = here.post("/infer/segment?image=chest1&output=image")
    (tmp_path / "x.nrrd").write_bytes(image.content)
    assert sitk.ReadImage(str(tmp_path / "x.nrrd")).GetSize() == (32, 24)


def test_infer_leaves_no_file_behind(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    picture = (Path(here.settings.studies) / "chest1.png").read_bytes()
    for output in ("image", "json", "all"):
        here.post(f"/infer/segment?output={output}", files={"file": ("x.png", picture, "image/png")})
    assert list(tmp_path.iterdir()) == []
    assert list((here.settings.state / "requests").iterdir()) == []


def test_a_session_is_uploaded_once_and_used_often(here: Here) -> None:
    picture = (Path(here.settings.studies) / "chest3.png").read_bytes()
    made = here.put("/session/", files={"files": ("../chest.png", picture, "image/png")}).json()
    session = made["session_id"]
    assert here.get(f"/session/{session}").json()["name"] == session
    assert here.get(f"/session/{session}?image=true").content == picture
    own = here.post(f"/infer/segment?session_id={session}&output=json").json()["mean"]
    assert own == here.post("/infer/segment?image=chest3&output=json").json()["mean"]
    assert own != here.post("/infer/segment?image=chest1&output=json").json()["mean"]
    assert here.delete(f"/session/{session}").status_code == 200
    assert here.get(f"/session/{session}").status_code == 404
    assert here.post(f"/infer/segment?image=chest1&session_id={session}").status_code == 404


def test_info_answers_while_models_work(here: Here) -> None:
    """Even when more clients wait for results than the thread pool has threads."""
    answers: list[int] = []

    def wait_for_result(number: int) -> None:
        params = {"params": '{"steps": 2}'}
        path, headers = "/infer/segment?image=chest1&output=json", {"X-Client-Id": f"c{number % 20}"}
        answers.append(here.post(path, data=params, headers=headers).status_code)

    waiting = [threading.Thread(target=wait_for_result, args=(number,)) for number in range(50)]
    began = time.monotonic()
    for thread in waiting:
        thread.start()
    times = []
    while any(thread.is_alive() for thread in waiting):
        sent = time.monotonic()
        assert here.get("/info/").status_code == 200
        times.append(time.monotonic() - sent)
    took = time.monotonic() - began
    assert answers == [200] * 50
    assert max(times) < took / 4, f"one /info/ took {max(times):.2f} s of {took:.2f} s"


def test_training_runs_here_and_is_told_as_monai_label_tells_it(here: Here) -> None:
    assert here.get("/train/").status_code == 404
    started = here.post("/train/learn", json={"steps": 40}).json()
    assert started["status"] in ("SUBMITTED", "RUNNING") and started["request"] == {"model": "learn"}
    assert here.get("/train/?check_if_running=true").json()["id"] == started["id"]
    assert here.post("/train/learn", json={}).status_code == 429
    assert here.delete("/train/").json()["id"] == started["id"]
    while here.get("/train/?check_if_running=true").status_code != 404:
        time.sleep(0.02)
    assert here.get("/train/").json()["status"] == "STOPPED"
    assert here.post("/train/learn?run_sync=true", json={"steps": 1}).json() == {"labelled": 0}
    assert [task["status"] for task in here.get("/train/?all=true").json()] == ["STOPPED", "DONE"]


def test_a_batch_runs_on_a_cpu_without_options_and_lets_others_in_between(here: Here) -> None:
    done = here.post("/batch/infer/segment?run_sync=true", json={"steps": 10, "label_tag": "original"}).json()
    assert set(done) == set(IMAGES)
    started = here.post("/batch/infer/segment", json={"steps": 40, "label_tag": "again"}).json()
    time.sleep(0.3)
    assert here.post("/infer/segment?image=chest1&output=json").status_code == 200
    assert here.get("/batch/infer").json()["status"] == "RUNNING"
    here.delete("/batch/infer")
    while here.get("/batch/infer?check_if_running=true").status_code != 404:
        time.sleep(0.02)
    stopped = here.get("/batch/infer").json()
    assert (stopped["id"], stopped["status"]) == (started["id"], "STOPPED")


def test_scoring_runs_in_this_process(here: Here) -> None:
    assert here.post("/scoring/count?run_sync=true", json={}).json() == {"images": len(IMAGES)}
    assert here.post("/scoring/count").json()["request"] == {"model": "count"}


def test_the_next_sample_and_what_was_said_of_it(here: Here) -> None:
    sample = here.post("/activelearning/first", json={"client_id": "anna"}).json()
    assert sample["id"] == "chest1" and os.path.isfile(sample["path"])
    assert here.get("/datastore/image/info?image=chest1").json()["strategy"]["first"]["client_id"] == "anna"


def test_worklist_skip_review_concepts_and_embeddings(here: Here) -> None:
    assert here.post("/datastore/skip?image=chest3", json={"reason": "lateral"}).status_code == 200
    states = {entry["image"]: entry["status"] for entry in here.get("/worklist").json()}
    assert states == {"chest1": "new", "chest2": "new", "chest3": "skipped"}
    assert here.post("/datastore/review?image=chest1", json={"status": "approved"}).status_code == 200
    assert here.get("/concepts").json() and here.get("/embeddings").json()[0]["name"] == "heart"
    assert here.post("/embeddings/heart/activate", json={"version": 1}).json()["version"] == 1


def test_images_come_go_and_are_described(here: Here, tmp_path: Path) -> None:
    label = make_label(tmp_path / "upload.png").read_bytes()
    added = here.put("/datastore/image", files={"file": ("new one.png", label, "image/png")})
    assert added.json() == {"image": "new one"}
    assert here.get("/datastore/image?image=new one").content == label
    assert here.put("/datastore/image/info?image=new one", data={"info": '{"a": 1}'}).status_code == 200
    assert here.get("/datastore/image/info?image=new one").json()["a"] == 1
    assert here.head("/datastore/image?image=new one").status_code == 200
    assert here.delete("/datastore/image?id=new one").status_code == 200
    assert here.get("/datastore/image?image=new one").status_code == 404


def test_labels_come_go_and_keep_their_predecessors(here: Here, tmp_path: Path) -> None:
    contents = [make_label(tmp_path / f"{value}.png", value=value).read_bytes() for value in (1, 2, 3)]
    for content in contents:
        answer = here.put("/datastore/label?image=chest2", files={"label": ("x.png", content, "image/png")})
        assert answer.json() == {"image": "chest2", "label": "chest2"}
        assert here.get("/datastore/label?label=chest2&tag=final").content == content
    kept = here.instance.datastore().label_versions("chest2", "final")
    assert [path.read_bytes() for path in kept] == contents[:2]
    assert here.get("/datastore/").json()["label_tags"]["final"] == 1
    assert (
        here.put("/datastore/label/info?label=chest2&tag=final", data={"info": '{"b": 2}'}).status_code == 200
    )
    assert here.get("/datastore/label/info?label=chest2&tag=final").json()["b"] == 2
    archive = here.get("/datastore/dataset")
    assert archive.content.startswith(b"PK")
    clash = here.put("/datastore/image?image=chest2", files={"file": ("x.png", contents[0], "image/png")})
    assert clash.status_code == 409
    assert here.delete("/datastore/label?id=chest2&tag=final").status_code == 200
    assert [
        path.read_bytes() for path in here.instance.datastore().label_versions("chest2", "final")
    ] == contents


def test_a_label_of_another_size_is_refused(here: Here, tmp_path: Path) -> None:
    for size, status in ((24, 200), (25, 400)):
        sitk.WriteImage(
            sitk.GetImageFromArray(np.ones((1, size, size + 8), np.uint8)), str(tmp_path / "label.nrrd")
        )
        with (tmp_path / "label.nrrd").open("rb") as file:
            answer = here.put("/datastore/label?image=chest1&tag=size", files={"label": ("label.nrrd", file)})
        assert answer.status_code == status, answer.text


def test_a_label_that_was_cut_off_is_refused(here: Here, tmp_path: Path) -> None:
    cut = make_label(tmp_path / "label.png").read_bytes()[:-20]
    answer = here.put("/datastore/label?image=chest1&tag=cut", files={"label": ("x.png", cut, "image/png")})
    assert answer.status_code == 400
