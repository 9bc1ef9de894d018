"""What bare MONAI Label 0.8.5 does wrong, each as a question to a running server: is it so here?

Every function answers True where the fault shows. The folder `outside` lies beside the studies.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.server.process import Process

Fault = Callable[[Process, Path], bool]
STEPS = 60
BAD = {
    "unknown model": ("POST", "/infer/nosuch?image=chest1", {}),
    "unknown image": ("POST", "/infer/segment?image=nosuch", {}),
    "no image": ("POST", "/infer/segment", {}),
    "unknown strategy": ("POST", "/activelearning/nosuch", {}),
    "params that are no JSON": ("POST", "/infer/segment?image=chest1", {"data": {"params": "{"}}),
    "params of a wrong type": ("POST", "/infer/segment?image=chest1", {"data": {"params": "[1]"}}),
    "label for an unknown image": (
        "PUT",
        "/datastore/label?image=nosuch",
        {"files": {"label": ("x.png", b"x", "image/png")}},
    ),
    "archive of nothing": ("GET", "/datastore/dataset", {}),
    "a value that JSON lacks": (
        "POST",
        "/infer/segment?image=chest1&output=json",
        {"data": {"params": '{"nan": 1}'}},
    ),
}


def infer_blocks_everything(server: Process, studies: Path) -> bool:
    """One inference of STEPS steps; how long does `/info/` take meanwhile?"""
    slow = {"params": json.dumps({"steps": STEPS})}
    path, took = "/infer/segment?image=chest1&output=json", []

    def infer() -> None:
        began = time.monotonic()
        assert server.call("POST", path, data=slow).status_code == 200
        took.append(time.monotonic() - began)

    thread = threading.Thread(target=infer)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert server.call("GET", "/info/").status_code == 200
    waited = time.monotonic() - began
    thread.join()
    return waited > took[0] / 3


def any_file_is_read_by_image(server: Process, studies: Path) -> bool:
    secret = studies.parent / "outside" / "secret.png"
    return server.call("POST", f"/infer/segment?image={secret}&output=json").ok


def any_file_is_read_by_params(server: Process, studies: Path) -> bool:
    secret = {"params": json.dumps({"image": str(studies.parent / "outside" / "secret.png")})}
    return server.call("POST", "/infer/segment?image=chest1&output=json", data=secret).ok


def images_are_written_outside(server: Process, studies: Path) -> bool:
    picture = {"file": ("x.png", (studies / "chest1.png").read_bytes(), "image/png")}
    server.call("PUT", "/datastore/image?image=../outside/planted", files=picture)
    return (studies.parent / "outside" / "planted.png").exists()


def labels_are_written_outside(server: Process, studies: Path) -> bool:
    picture = {"label": ("x.png", (studies / "chest1.png").read_bytes(), "image/png")}
    server.call("PUT", "/datastore/label?image=chest1&tag=../../outside/label", files=picture)
    return (studies.parent / "outside" / "label").exists()


def anybody_gets_in(server: Process, studies: Path) -> bool:
    return server.call("GET", "/info/", headers={"Authorization": ""}).ok


def any_web_page_gets_in(server: Process, studies: Path) -> bool:
    answer = server.call("GET", "/info/", headers={"Origin": "https://evil.example"})
    return "access-control-allow-origin" in answer.headers


def an_unknown_session_gives_another_image(server: Process, studies: Path) -> bool:
    nowhere = "00000000-0000-4000-8000-000000000000"
    return server.call("POST", f"/infer/segment?image=chest1&session_id={nowhere}&output=json").ok


def an_unknown_training_is_accepted(server: Process, studies: Path) -> bool:
    accepted = server.call("POST", "/train/nosuch").ok
    server.call("DELETE", "/train/")
    return accepted


def a_training_starts_a_process(server: Process, studies: Path) -> bool:
    assert server.call("POST", "/train/learn?enqueue=true", json={"steps": 1}).ok
    time.sleep(0.5)
    started = bool(psutil.Process(server.process.pid).children())
    server.call("DELETE", "/train/")
    return started


def batch_fails_on_a_cpu(server: Process, studies: Path) -> bool:
    return not server.call("POST", "/batch/infer/segment?run_sync=true").ok


FAULTS: list[Fault] = [
    infer_blocks_everything,
    any_file_is_read_by_image,
    any_file_is_read_by_params,
    images_are_written_outside,
    labels_are_written_outside,
    anybody_gets_in,
    any_web_page_gets_in,
    an_unknown_session_gives_another_image,
    an_unknown_training_is_accepted,
    a_training_starts_a_process,
    batch_fails_on_a_cpu,
]


def a_bad_request_is_a_server_error(kind: str) -> Fault:
    def fault(server: Process, studies: Path) -> bool:
        method, path, more = BAD[kind]
        return server.call(method, path, **more).status_code >= 500

    return fault
