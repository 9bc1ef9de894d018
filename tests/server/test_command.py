"""`dino-diffusion serve`: what it refuses, what it says, and the real app behind it in a real process."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from filelock import FileLock
from typer.testing import CliRunner

from dino_diffusion.cli.app import app
from monailabel_app.server.studies import SAMPLES, find_studies, is_address
from tests.core.radiograph.phantom import chest, dicom
from tests.server.conftest import make_studies
from tests.server.process import Process
from tests.tiny import saved_tiny_bundle

PROGRAM = "from dino_diffusion.cli import main; main()"


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == 1, done.output
    return " ".join(done.output.split())


def test_no_auth_goes_with_loopback_only(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::"):
        assert "--host 127.0.0.1" in refused("--no-auth", "--host", host, "--state", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_studies_that_are_not_there(tmp_path: Path) -> None:
    assert "no such folder" in refused("--studies", str(tmp_path / "no"), "--state", str(tmp_path))


def test_half_of_tls(tmp_path: Path) -> None:
    assert "go together" in refused("--tls-key", str(tmp_path / "key.pem"), "--state", str(tmp_path))


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        studies = make_studies(tmp_path / "studies")
        said = refused("--port", port, "--state", str(tmp_path / "state"), "--studies", str(studies))
    assert "--port" in said and port in said


def test_a_state_folder_is_one_servers(tmp_path: Path) -> None:
    studies = make_studies(tmp_path / "studies")
    with FileLock(tmp_path / "lock"):
        said = refused("--port", "0", "--state", str(tmp_path), "--studies", str(studies))
    assert "another server" in said and "--state" in said


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    given = (
        "--tls-certificate",
        str(tmp_path / "x.pem"),
        "--tls-key",
        str(tmp_path / "x.pem"),
        "--port",
        "0",
    )
    assert "PEM" in refused(*given, "--state", str(tmp_path / "state"), "--studies", str(tmp_path))


def test_without_the_optional_part_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "monailabel" else found(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    said = refused()
    assert "monailabel" in said and "make setup" in said


def test_the_samples_are_used_where_nothing_is_named(tmp_path: Path) -> None:
    folder = Path(find_studies("", tmp_path))
    assert {path.name for path in folder.iterdir()} == {
        p.name for p in SAMPLES.iterdir() if p.suffix != ".md"
    }
    assert SAMPLES not in folder.parents
    assert is_address("https://archive.example/dicom-web") and not is_address(str(folder))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The command with the real app and a tiny model, on a PNG and a DICOM file."""
    folder = tmp_path_factory.mktemp("serve")
    bundle = saved_tiny_bundle(folder / "bundle")
    studies = make_studies(folder / "studies", ("film",), size=96)
    dicom(studies / "study.dcm", chest())
    command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--studies", str(studies)]
    command += ["--state", str(folder / "state"), "--bundle", str(bundle)]
    with Process(command, None, folder / "output.txt") as server:
        server.token = (folder / "state" / "token").read_text().strip()
        yield server


def test_it_says_all_one_needs_and_keeps_its_files_to_itself(served: Process) -> None:
    said = dict(line.split(": ", 1) for line in served.log.read_text().splitlines() if ": " in line)
    assert said["Address"] == served.address and said["Address"].startswith("http://127.0.0.1:")
    assert said["Token"] == served.token and "2 images" in said["Studies"]
    assert {"lungs", "inpaint", "variant"} <= set(said["Models"].split(", "))
    assert said["Device"] == served.call("GET", "/info/").json()["device"]
    assert "3D Slicer" in said
    state = served.log.parent / "state"
    assert (state / "token").stat().st_mode & 0o777 == 0o600 and state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("image", ["film", "study"])
def test_lungs_and_a_variant_of_each_format(served: Process, image: str) -> None:
    lungs = served.call("POST", f"/infer/lungs?image={image}&output=json")
    assert lungs.status_code == 200 and lungs.json()["label_names"] == {"right lung": 1, "left lung": 2}
    params = json.dumps({"steps": 2, "candidates": 2})
    variant = served.call("POST", f"/infer/variant?image={image}&output=image", data={"params": params})
    assert variant.status_code == 200 and len(variant.content) > 1000


def test_a_generation_as_a_job_with_every_candidate(served: Process) -> None:
    wanted = {"kind": "infer", "model": "variant", "image": "film", "params": {"steps": 3, "candidates": 2}}
    job = served.call("POST", "/jobs", files={"request": (None, json.dumps(wanted))}).json()
    while job["state"] in ("queued", "running"):
        time.sleep(0.1)
        job = served.call("GET", f"/jobs/{job['id']}").json()
    assert job["state"] == "done", job
    assert len(job["params"]["candidates"]) == 2
    assert sum(file["name"].endswith(".png") for file in job["files"]) == 2


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("lungs", {"zones": "perhaps"}),
        ("variant", {"strength": "strong"}),
        ("variant", {"candidates": -1}),
        ("inpaint", {"concept": "nosuch"}),
        ("inpaint", {}),
        ("regions", {"granularity": []}),
        ("strip", {"frames": 10**9}),
        ("lungs", {"result_extension": ".exe"}),
    ],
)
def test_impossible_settings_are_a_sentence(served: Process, model: str, params: dict[str, Any]) -> None:
    answer = served.call("POST", f"/infer/{model}?image=film", data={"params": json.dumps(params)})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["detail"].endswith(".")


def test_dicom_seg_where_the_image_is_dicom(served: Process) -> None:
    seg = served.call("POST", "/infer/lungs?image=study&output=dicom_seg")
    assert seg.status_code in (200, 400), seg.text
    if seg.ok:
        assert seg.headers["content-type"] == "application/dicom" and seg.content[128:132] == b"DICM"
    else:
        assert "empty" in seg.json()["detail"], "a tiny random model may find no lung, nothing else may fail"
    png = served.call("POST", "/infer/lungs?image=film&output=dicom_seg")
    assert png.status_code == 400 and "DICOM" in png.json()["detail"]


def test_the_worklist_and_two_clients(served: Process) -> None:
    entries = {entry["image"]: entry for entry in served.call("GET", "/worklist").json()}
    assert set(entries) == {"film", "study"} and entries["film"]["status"] == "new"
    given = [
        served.call("POST", "/activelearning/first", json={"client_id": client}).json().get("id")
        for client in ("anna", "ben", "cora")
    ]
    assert given == ["film", "study", None]
    assert served.call("GET", "/concepts").ok and served.call("GET", "/embeddings").json() == []


def test_it_answers_only_with_the_token(served: Process) -> None:
    assert requests.get(served.address + "/info/", timeout=10).status_code == 401
    assert requests.get(served.address + "/health", timeout=10).json() == {"status": "ok"}
