"""Each fault of bare MONAI Label shows there, in a real process, and does not show here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from monailabel.utils.sessions import Sessions

from monailabel_app.server.sessions import remove_expired
from tests.server.conftest import TOKEN, make_label, make_studies
from tests.server.faults import BAD, FAULTS, Fault, a_bad_request_is_a_server_error
from tests.server.process import Process, bare, ours

ALL = [*FAULTS, *(a_bad_request_is_a_server_error(kind) for kind in BAD)]
NAMES = [*(fault.__name__ for fault in FAULTS), *(f"bad request: {kind}" for kind in BAD)]
Running = tuple[Process, Path]


def studies_in(folder: Path) -> Path:
    (folder / "outside").mkdir(parents=True)
    make_label(folder / "outside" / "secret.png")
    return make_studies(folder / "studies")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("bare")
    studies = studies_in(folder)
    with bare(studies, folder / "server") as server:
        yield server, studies


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("ours")
    studies = studies_in(folder)
    with ours(studies, folder / "state", TOKEN) as server:
        yield server, studies


@pytest.mark.parametrize("fault", ALL, ids=NAMES)
def test_bare_monai_label_has_it(upstream: Running, fault: Fault) -> None:
    assert fault(*upstream)


def test_a_client_that_hangs_up_takes_its_inference_with_it(own: Running) -> None:
    server, _ = own
    with pytest.raises(requests.Timeout):
        requests.post(
            f"{server.address}/infer/segment?image=chest1",
            data={"params": '{"steps": 4000}'},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=1,
        )
    assert server.call("POST", "/infer/segment?image=chest1&output=json").status_code == 200
    assert (
        'dino_jobs_total{kind="infer",model="segment",state="cancelled"}'
        in server.call("GET", "/metrics").text
    )


@pytest.mark.parametrize("fault", ALL, ids=NAMES)
def test_ours_has_not(own: Running, fault: Fault) -> None:
    assert not fault(*own)


def test_a_session_without_a_record_breaks_monai_labels_start_and_not_ours(tmp_path: Path) -> None:
    """A server that is killed while a session is made leaves such a folder."""
    (tmp_path / "00000000-0000-4000-8000-000000000000").mkdir()
    sessions = Sessions(str(tmp_path))
    with pytest.raises(AttributeError):
        sessions.remove_expired()
    assert remove_expired(sessions) == 0, "it may be an upload in work"
    assert remove_expired(sessions, unfinished=0.0) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_session_ends_when_it_was_not_used_for_long_enough(tmp_path: Path) -> None:
    sessions = Sessions(str(tmp_path / "sessions"))
    made = {}
    for name in ("used", "left"):
        image = make_label(tmp_path / f"{name}.png")
        made[name], _ = sessions.add_session(str(image), expiry=100, session_id=name)
    record = tmp_path / "sessions" / "left" / "meta.info"
    told = json.loads(record.read_text())
    record.write_text(json.dumps({**told, "last_access_ts": told["last_access_ts"] - 101}))
    assert remove_expired(sessions) == 1
    assert sessions.get_session("left") is None and sessions.get_session("used") is not None
