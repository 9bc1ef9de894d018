"""The log tells what happened and names nobody; metrics count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monailabel_app.server.log import open_log
from tests.server.conftest import Here, make_studies, settings_for

PATIENT = "Meier_Anna_19530712"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    settings = settings_for(tmp_path)
    make_studies(Path(settings.studies), (PATIENT,))
    open_log(settings.log)
    with Here(settings) as client:
        yield client


def test_the_log_has_every_request_and_no_patient(here: Here) -> None:
    here.get(f"/datastore/image?image={PATIENT}")
    here.post(f"/infer/segment?image={PATIENT}&output=json", data={"params": json.dumps({"who": PATIENT})})
    here.post(f"/infer/segment?image={PATIENT}", data={"params": '{"crash": 1}'})
    here.get(f"/{PATIENT}")
    here.get(f"/jobs/{PATIENT}")
    here.post("/activelearning/first", json={"client_id": PATIENT})
    text = here.settings.log.read_text()
    assert "Meier" not in text and "meier" not in text and str(here.settings.studies) not in text
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [
        (line["method"], line["route"], line["status"]) for line in lines if line["event"] == "request"
    ]
    assert requests == [
        ("GET", "/datastore/image", 200),
        ("POST", "/infer/{model}", 200),
        ("POST", "/infer/{model}", 500),
        ("GET", "(none)", 404),
        ("GET", "/jobs/{job_id}", 404),
        ("POST", "/activelearning/{strategy}", 200),
    ]
    (fault,) = [line for line in lines if line["level"] == "error"]
    assert fault["error"] == "ZeroDivisionError" and fault["at"][-1].startswith("stand_in.py:")
    told = here.get("/logs/?lines=2").text.splitlines()
    assert len(told) == 2 and json.loads(told[-1])["event"] == "request"


def test_metrics_count_requests_jobs_and_the_queue(here: Here) -> None:
    assert here.post(f"/infer/segment?image={PATIENT}&output=json").status_code == 200
    here.get("/nosuch")
    text = here.get("/metrics").text
    assert 'dino_requests_total{method="POST",route="/infer/{model}",status="200"} 1.0' in text
    assert 'dino_requests_total{method="GET",route="(none)",status="404"} 1.0' in text
    assert 'dino_jobs_total{kind="infer",model="segment",state="done"} 1.0' in text
    assert "dino_queue_length 0.0" in text and "dino_memory_bytes" in text and "Meier" not in text
