"""Each fault of bare MONAI Label shows there, in a real process, and does not show here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from monailabel.utils.sessions import Sessions

from monailabel_app.server.app import clear_leftovers
from monailabel_app.server.settings import ServerSettings
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


@pytest.mark.parametrize("fault", ALL, ids=NAMES)
def test_ours_has_not(own: Running, fault: Fault) -> None:
    assert not fault(*own)


def test_a_session_without_a_record_breaks_monai_labels_start_and_not_ours(tmp_path: Path) -> None:
    """A server that is killed while a session is made leaves such a folder."""
    settings = ServerSettings(studies=str(tmp_path), state=tmp_path, token=None)
    (settings.sessions / "00000000-0000-4000-8000-000000000000").mkdir(parents=True)
    sessions = Sessions(str(settings.sessions))
    with pytest.raises(AttributeError):
        sessions.remove_expired()
    clear_leftovers(settings)
    assert sessions.remove_expired() == 0
