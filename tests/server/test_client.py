"""MONAI Label's own client class against the real server in a real process.

A client of its own for each step, as the stock Slicer module makes them: one client keeps the headers of its
last upload and sends them again with the next request.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import SimpleITK as sitk

from tests.server.conftest import IMAGES, TOKEN, make_label, make_studies
from tests.server.process import Process, ours

with pytest.warns(DeprecationWarning, match="cgi"):
    from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("client")
    with ours(make_studies(folder / "studies"), folder / "state", TOKEN) as running:
        yield running


@pytest.fixture
def studies(server: Process) -> Path:
    return server.log.parent.parent / "studies"


def client(server: Process, folder: Path, token: str = TOKEN) -> MONAILabelClient:
    made = MONAILabelClient(server.address, tmpdir=str(folder), client_id="anna")
    if made.auth_enabled():
        made.update_auth(made.auth_token("anna", token))
    return made


def test_login(server: Process, tmp_path: Path) -> None:
    stranger = MONAILabelClient(server.address, tmpdir=str(tmp_path))
    with pytest.raises(MONAILabelClientException):
        stranger.info()
    with pytest.raises(MONAILabelClientException):
        client(server, tmp_path, "wrong")
    assert client(server, tmp_path).auth_valid_token()


def test_info(server: Process, tmp_path: Path) -> None:
    info = client(server, tmp_path).info()
    assert set(info["models"]) == {"segment"} and set(info["trainers"]) == {"learn"}
    assert info["datastore"]["total"] == len(IMAGES)


def test_infer_by_id_file_and_session(server: Process, studies: Path, tmp_path: Path) -> None:
    params = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    file, told = client(server, tmp_path).infer("segment", "chest2", dict(params))
    assert sitk.ReadImage(file).GetSize() == (32, 24) and told["label_names"] == {"bright": 1}
    upload = str(studies / "chest2.png")
    _, by_file = client(server, tmp_path).infer("segment", "", dict(params), file=upload)
    session = client(server, tmp_path).create_session(upload)["session_id"]
    assert client(server, tmp_path).get_session(session)["name"] == session
    _, by_session = client(server, tmp_path).infer("segment", "", dict(params), session_id=session)
    assert told["mean"] == by_file["mean"] == by_session["mean"]
    client(server, tmp_path).remove_session(session)
    with pytest.raises(MONAILabelClientException):
        client(server, tmp_path).infer("segment", "", dict(params), session_id=session)


def test_infer_with_a_label(server: Process, tmp_path: Path) -> None:
    label = str(make_label(tmp_path / "mask.png"))
    file, _ = client(server, tmp_path).infer("segment", "chest1", {}, label_in=label)
    assert Path(file).stat().st_size


def test_next_sample_save_label_and_download(server: Process, tmp_path: Path) -> None:
    sample = client(server, tmp_path).next_sample("first", {})
    label = make_label(tmp_path / "label.png")
    saved = client(server, tmp_path).save_label(
        sample["id"], str(label), "final", {"label_info": [{"name": "lung"}]}
    )
    assert saved["label"] == sample["id"]
    stored = client(server, tmp_path).datastore()["objects"][sample["id"]]["labels"]["final"]["info"]
    assert stored["label_info"] == [{"name": "lung"}] and stored["client_id"] == "anna"
    assert (
        Path(client(server, tmp_path).download_label(sample["id"], "final")).read_bytes()
        == label.read_bytes()
    )
    assert client(server, tmp_path).next_sample("first", {})["id"] != sample["id"]


def test_upload_image(server: Process, tmp_path: Path) -> None:
    picture = str(make_label(tmp_path / "new.png"))
    assert client(server, tmp_path).upload_image(picture, "uploaded")["image"] == "uploaded"


def test_train(server: Process, tmp_path: Path) -> None:
    assert not client(server, tmp_path).train_status(check_if_running=True)
    started = client(server, tmp_path).train_start("learn", {"steps": 200})
    assert client(server, tmp_path).train_status(check_if_running=True)
    assert client(server, tmp_path).train_status()["id"] == started["id"]
    assert client(server, tmp_path).train_stop()["id"] == started["id"]
    while client(server, tmp_path).train_status(check_if_running=True):
        pass
    assert client(server, tmp_path).train_status()["status"] == "STOPPED"
