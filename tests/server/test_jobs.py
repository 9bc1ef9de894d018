"""Jobs over HTTP: their life, what is told of it, stopping, and what is left after a restart."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monailabel_app.server.jobs.store import INTERRUPTED, JobStore
from tests.server.conftest import Here, settings_for

LONG = 400
"""Steps of a job that has to be stopped."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with Here(settings_for(tmp_path_factory.mktemp("jobs"))) as client:
        yield client


def until(here: Here, job_id: str, wanted: Callable[[dict[str, Any]], bool], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = here.get(f"/jobs/{job_id}").json()
        if wanted(job):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


def ended(job: dict[str, Any]) -> bool:
    return job["state"] in ("done", "failed", "cancelled")


def test_a_job_from_submission_to_its_files(here: Here) -> None:
    answer = here.submit(steps=6)
    assert answer.status_code == 202
    first = answer.json()
    assert first["progress"] == 0 and first["files"] == [] and first["error"] is None
    seen = until(here, first["id"], lambda job: job["state"] == "running" and job["progress"] > 0.3)
    assert seen["message"].startswith("step") and seen["eta_seconds"] is not None and seen["preview"]
    picture = here.get(f"/jobs/{first['id']}/preview")
    assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    done = until(here, first["id"], ended)
    assert (
        done["state"] == "done" and done["progress"] == 1 and done["params"]["label_names"] == {"bright": 1}
    )
    assert done["started"] <= done["ended"] and done["position"] is None and done["eta_seconds"] is None
    names = {file["name"]: file for file in done["files"]}
    assert len(names) == 2 and names["second.json"]["media_type"] == "application/json"
    for name, file in names.items():
        assert len(here.get(f"/jobs/{first['id']}/files/{name}").content) == file["bytes"]


def test_nan_reaches_clients_as_null(here: Here) -> None:
    wanted = {"kind": "infer", "model": "segment", "image": "chest1", "params": {"nan": 1}}
    job = here.post("/jobs", data={"request": json.dumps(wanted)}).json()
    assert until(here, job["id"], ended)["params"]["not_a_number"] is None
    answer = here.post("/infer/segment?image=chest1&output=json", data={"params": '{"nan": 1}'})
    assert answer.json()["not_a_number"] is None


def test_a_running_job_stops_within_one_step(here: Here) -> None:
    job = here.submit(steps=LONG).json()
    until(here, job["id"], lambda job: job["progress"] > 0)
    here.delete(f"/jobs/{job['id']}")
    at_cancel = here.get(f"/jobs/{job['id']}").json()["progress"]
    stopped = until(here, job["id"], ended)
    assert stopped["state"] == "cancelled" and stopped["error"] == "The job was cancelled."
    assert (stopped["progress"] - at_cancel) * LONG <= 1.5


def test_a_waiting_job_stops_at_once_and_the_next_one_moves_up(here: Here) -> None:
    running, second, third = (here.submit(steps=LONG).json() for _ in range(3))
    until(here, running["id"], lambda job: job["state"] == "running")
    assert [here.get(f"/jobs/{job['id']}").json()["position"] for job in (second, third)] == [1, 2]
    assert here.delete(f"/jobs/{second['id']}").json()["state"] == "cancelled"
    assert here.get(f"/jobs/{third['id']}").json()["position"] == 1
    for job in (third, running):
        here.delete(f"/jobs/{job['id']}")
        until(here, job["id"], ended)


def test_clients_take_turns_and_see_their_own_jobs(here: Here) -> None:
    blocker = here.submit(steps=LONG, client="blocker").json()
    until(here, blocker["id"], lambda job: job["state"] == "running")
    busy = [here.submit(client="busy").json()["id"] for _ in range(3)]
    calm = here.submit(client="calm").json()["id"]
    here.delete(f"/jobs/{blocker['id']}")
    jobs = {job: until(here, job, ended) for job in [*busy, calm]}
    order = sorted(jobs, key=lambda job: jobs[job]["started"])
    assert order == [busy[0], calm, busy[1], busy[2]]
    listed = here.get("/jobs", headers={"X-Client-Id": "busy"}).json()
    assert [job["id"] for job in listed] == busy[::-1]


def test_an_ended_job_can_be_removed_with_its_files(here: Here) -> None:
    job = here.submit().json()["id"]
    until(here, job, ended)
    folder = here.settings.jobs / job
    assert list(folder.iterdir())
    assert here.delete(f"/jobs/{job}").json()["state"] == "done"
    assert not folder.exists() and here.get(f"/jobs/{job}").status_code == 404


def test_uploads_are_used_and_not_kept(here: Here) -> None:
    picture = (Path(here.settings.studies) / "chest2.png").read_bytes()
    wanted = {"kind": "infer", "model": "segment", "params": {}}
    answer = here.post(
        "/jobs", data={"request": json.dumps(wanted)}, files={"image": ("../../x.png", picture, "image/png")}
    )
    job = until(here, answer.json()["id"], ended)
    assert job["state"] == "done", job
    assert not (here.settings.jobs / job["id"] / "inputs").exists()


def test_a_job_that_fails_says_why_and_the_next_one_runs(here: Here) -> None:
    for params, sentence in (
        ({"steps": "x"}, "steps is a number from 0 on."),
        ({"crash": 1}, "ZeroDivisionError"),
    ):
        wanted = {"kind": "infer", "model": "segment", "image": "chest1", "params": params}
        job = here.post("/jobs", data={"request": json.dumps(wanted)}).json()["id"]
        failed = until(here, job, ended)
        assert failed["state"] == "failed" and sentence in failed["error"] and "meier" not in failed["error"]
    assert until(here, here.submit().json()["id"], ended)["state"] == "done"


def test_events_tell_every_change_and_the_end(here: Here) -> None:
    job = here.submit(steps=5).json()["id"]
    events: list[tuple[str, dict[str, Any]]] = []
    with here.stream("GET", f"/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    assert events[-1][0] == "done" and events[-1][1]["state"] == "done"
    assert {name for name, _ in events[:-1]} == {"progress"}
    assert [told["progress"] for _, told in events] == sorted(told["progress"] for _, told in events)


def test_training_is_a_job_too(here: Here) -> None:
    wanted = {"kind": "train", "model": "learn", "params": {"steps": 2, "label": "heart"}}
    job = here.post("/jobs", data={"request": json.dumps(wanted)}).json()["id"]
    assert until(here, job, ended)["params"] == {"labelled": 0}


def test_a_full_queue_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with Here(settings_for(tmp_path, queue_limit=3, client_limit=2)) as here:
        running = here.submit(steps=LONG, client="a").json()["id"]
        until(here, running, lambda job: job["state"] == "running")
        waiting = [here.submit(client="a").json()["id"] for _ in range(2)]
        own = here.submit(client="a")
        assert own.status_code == 429 and "2 of your jobs" in own.json()["detail"]
        waiting.append(here.submit(client="b").json()["id"])
        full = here.submit(client="c")
        assert full.status_code == 429 and int(full.headers["retry-after"]) > 0
        stock = here.post("/infer/segment?image=chest1", headers={"X-Client-Id": "c"})
        assert stock.status_code == 429
        folders = {path.name for path in here.settings.jobs.iterdir() if path.is_dir()}
        assert folders == {running, *waiting}
        here.delete(f"/jobs/{running}")


def test_jobs_survive_a_restart_and_unfinished_ones_say_so(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with Here(settings) as here:
        done = here.submit().json()["id"]
        params = until(here, done, ended)["params"]
        running = here.submit(steps=LONG).json()["id"]
        until(here, running, lambda job: job["state"] == "running")
        waiting = here.submit().json()["id"]
    with Here(settings) as here:
        kept = here.get(f"/jobs/{done}").json()
        assert kept["state"] == "done" and kept["params"] == params
        for file in kept["files"]:
            assert len(here.get(f"/jobs/{done}/files/{file['name']}").content) == file["bytes"]
        for unfinished in (running, waiting):
            told = here.get(f"/jobs/{unfinished}").json()
            assert (told["state"], told["error"]) == ("failed", INTERRUPTED)
        assert {job["id"] for job in here.get("/jobs", headers={"X-Client-Id": "me"}).json()} == {
            done,
            running,
            waiting,
        }


def test_old_jobs_are_removed_at_the_start(tmp_path: Path) -> None:
    with Here(settings_for(tmp_path)) as here:
        job = here.submit().json()["id"]
        until(here, job, ended)
    time.sleep(0.05)
    with Here(settings_for(tmp_path, keep_days=0.0)) as here:
        assert here.get(f"/jobs/{job}").status_code == 404
        assert not (here.settings.jobs / job).exists()


def test_the_store_serves_many_threads(tmp_path: Path) -> None:
    from monailabel_app.server.jobs import Job

    store = JobStore(tmp_path / "jobs")
    jobs = [Job("infer", "segment", f"client{number % 3}", tmp_path) for number in range(30)]
    threads = [threading.Thread(target=store.save, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(store.of_client(f"client{number}")) for number in range(3)) == 30
    store.close()
