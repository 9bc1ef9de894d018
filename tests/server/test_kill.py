"""kill -9 at any moment: no acknowledged label is lost, the datastore opens, finished jobs are there."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import requests

from monailabel_app.server.datastore import DurableDatastore
from tests.server.conftest import IMAGES, TOKEN, make_label, make_studies
from tests.server.process import Process, ours

ROUNDS = 2


class Submitter(threading.Thread):
    """Submits labels one after the other, each with another value, and remembers what was acknowledged."""

    def __init__(self, server: Process, image: str, tag: str, contents: list[bytes]) -> None:
        super().__init__()
        self.server, self.image, self.tag, self.contents = server, image, tag, contents
        self.acknowledged: list[int] = []

    def run(self) -> None:
        for number, content in enumerate(self.contents):
            try:
                path = f"/datastore/label?image={self.image}&tag={self.tag}"
                answer = self.server.call("PUT", path, files={"label": ("x.png", content, "image/png")})
            except requests.RequestException:
                return
            if answer.ok:
                self.acknowledged.append(number)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("labels")
    return [make_label(folder / f"{value}.png", value=value).read_bytes() for value in range(1, 250)]


def test_nothing_acknowledged_is_lost(tmp_path: Path, contents: list[bytes]) -> None:
    studies = make_studies(tmp_path / "studies")
    job = None
    for kill_round in range(ROUNDS):
        tags = [f"round{kill_round}_{number}" for number in range(2)]
        server = ours(studies, tmp_path / "state", TOKEN)
        try:
            if job is not None:
                assert server.call("GET", f"/jobs/{job}").json()["state"] == "done"
            job = server.submit().json()["id"]
            while server.call("GET", f"/jobs/{job}").json()["state"] != "done":
                time.sleep(0.05)
            submitters = [Submitter(server, image, tag, contents) for image in IMAGES for tag in tags]
            for submitter in submitters:
                submitter.start()
            while sum(len(submitter.acknowledged) for submitter in submitters) < 25 * (kill_round + 1):
                assert any(submitter.is_alive() for submitter in submitters)
                time.sleep(0.01)
        finally:
            server.kill()
        for submitter in submitters:
            submitter.join()
        assert all(submitter.acknowledged for submitter in submitters)
        check(studies, submitters, contents)


def check(studies: Path, submitters: list[Submitter], contents: list[bytes]) -> None:
    """What the studies hold now against what was acknowledged."""
    store = DurableDatastore(studies)
    assert set(IMAGES) <= set(store.list_images())
    for submitter in submitters:
        last = submitter.acknowledged[-1]
        found = Path(store.get_label_uri(submitter.image, submitter.tag)).read_bytes()
        # The one after the last acknowledged may have arrived before the kill.
        assert found in contents[last : last + 2]
        versions = [path.read_bytes() for path in store.label_versions(submitter.image, submitter.tag)]
        kept = {contents.index(version) for version in versions} | {contents.index(found)}
        assert set(submitter.acknowledged) <= kept
