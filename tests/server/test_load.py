"""Twenty clients at once for two minutes, each doing all there is: no 5xx, no lost label, bounded memory."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import requests

from tests.server.conftest import TOKEN, make_label, make_studies
from tests.server.process import Process, ours

pytestmark = pytest.mark.slow
CLIENTS, SECONDS, WARM = 20, 120.0, 30.0
IMAGES = tuple(f"chest{number}" for number in range(40))
GROWTH = 1.15
"""By how much memory may grow after the first WARM seconds."""


class Client(threading.Thread):
    """Chooses its next act by chance; notes every status."""

    def __init__(self, server: Process, number: int, label: Path, end: float) -> None:
        super().__init__()
        self.server, self.name, self.end = server, f"client{number}", end
        self.label, self.chance = label.read_bytes(), random.Random(number)
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.saved: set[tuple[str, str]] = set()
        self.fault: BaseException | None = None

    def run(self) -> None:
        acts = [self.infer, self.job, self.cancelled, self.save, self.session, self.look, self.nonsense]
        try:
            while time.monotonic() < self.end:
                self.chance.choice(acts)()
        except BaseException as error:
            self.fault = error

    def call(self, method: str, path: str, **more: object) -> requests.Response:
        answer = self.server.call(method, path, headers={"X-Client-Id": self.name}, **more)
        self.statuses[f"{method} {path.split('?')[0].split('/')[1]}", answer.status_code] += 1
        return answer

    def image(self) -> str:
        return self.chance.choice(IMAGES)

    def infer(self) -> None:
        self.call("POST", f"/infer/segment?image={self.image()}")

    def job(self) -> None:
        wanted = {"kind": "infer", "model": "segment", "image": self.image(), "params": {"steps": 2}}
        answer = self.call("POST", "/jobs", files={"request": (None, json.dumps(wanted))})
        if answer.status_code != 202:
            return
        job = answer.json()
        while job["state"] in ("queued", "running"):
            time.sleep(0.2)
            job = self.call("GET", f"/jobs/{job['id']}").json()
        assert job["state"] == "done", job
        for file in job["files"]:
            assert len(self.call("GET", f"/jobs/{job['id']}/files/{file['name']}").content) == file["bytes"]
        self.call("DELETE", f"/jobs/{job['id']}")

    def cancelled(self) -> None:
        wanted = {"kind": "infer", "model": "segment", "image": self.image(), "params": {"steps": 50}}
        answer = self.call("POST", "/jobs", files={"request": (None, json.dumps(wanted))})
        if answer.status_code == 202:
            self.call("DELETE", f"/jobs/{answer.json()['id']}")

    def save(self) -> None:
        image = self.image()
        answer = self.call(
            "PUT", f"/datastore/label?image={image}&tag={self.name}", files={"label": ("x.png", self.label)}
        )
        if answer.ok:
            self.saved.add((image, self.name))

    def session(self) -> None:
        made = self.call("PUT", "/session/", files={"files": ("x.png", self.label)}).json()["session_id"]
        self.call("POST", f"/infer/segment?session_id={made}&output=json")
        self.call("DELETE", f"/session/{made}")

    def look(self) -> None:
        for path in ("/info/", "/worklist", "/jobs", "/datastore/?output=all", "/metrics", "/train/"):
            self.call("GET", path)
        self.call("POST", "/activelearning/first", json={})

    def nonsense(self) -> None:
        self.call("POST", "/infer/nosuch?image=x")
        self.call("POST", "/infer/segment?image=/etc/passwd", data={"params": "{"})
        self.call("PUT", f"/datastore/label?image={self.image()}&tag=../x", files={"label": ("x.png", b"x")})
        self.call("GET", "/jobs/%2e%2e%2ftoken")


def test_twenty_clients(tmp_path: Path) -> None:
    studies = make_studies(tmp_path / "studies", IMAGES)
    label = make_label(tmp_path / "label.png")
    with ours(studies, tmp_path / "state", TOKEN) as server:
        end = time.monotonic() + SECONDS
        clients = [Client(server, number, label, end) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        process, memory = psutil.Process(server.process.pid), []
        while any(client.is_alive() for client in clients):
            memory.append(process.memory_info().rss)
            time.sleep(1)
        for client in clients:
            client.join()
        kept = server.call("GET", "/datastore/?output=all").json()["objects"]
        leftovers = list((tmp_path / "state" / "requests").iterdir())
    assert [client.fault for client in clients if client.fault] == []
    statuses: Counter[tuple[str, int]] = sum((client.statuses for client in clients), Counter())
    print(f"\n{sum(statuses.values())} requests in {SECONDS:.0f} s")
    assert not {key: count for key, count in statuses.items() if key[1] >= 500}
    assert sum(statuses.values()) > 20 * CLIENTS
    for image, tag in set().union(*(client.saved for client in clients)):
        assert tag in kept[image]["labels"]
    warm, last = max(memory[: int(WARM)]), max(memory[-int(WARM) :])
    print(f"memory {warm / 1e6:.0f} MB in the first {WARM:.0f} s, {last / 1e6:.0f} MB in the last")
    assert last < GROWTH * warm
    assert leftovers == []
