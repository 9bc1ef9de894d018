"""The client against a server that speaks the contract, and against one that misbehaves."""

from __future__ import annotations

import numpy as np
import pytest
from DiNODiffusionLib.codec import files, nrrd
from DiNODiffusionLib.codec.geometry import Image
from DiNODiffusionLib.net import client, errors
from DiNODiffusionLib.net.address import Address
from DiNODiffusionLib.net.messages import Part, Request
from DiNODiffusionLib.net.tasks import Progress, Task, run
from DiNODiffusionLib.net.transport import Transport

from tests.slicer.bench import stored_label
from tests.slicer.fake_server import TOKEN, FakeServer, finish, lungs_of

GRID = np.diag([-0.2, -0.2, 1.0, 1.0])


def picture(rows: int = 40, columns: int = 32) -> Image:
    return Image((np.random.default_rng(0).random((1, rows, columns)) * 4000).astype(np.uint16), GRID)


def transport_to(server: FakeServer, token: str = TOKEN) -> Transport:
    return Transport(Address.parse(server.url), token)


def get(path: str = "/x", **more: object) -> Request:
    return Request("GET", path, **more)


# Addresses


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        (" localhost ", "http://localhost:8000"),
        ("https://gpu.example.org/label/", "https://gpu.example.org:443/label"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_addresses_as_people_type_them(typed: str, address: str) -> None:
    assert str(Address.parse(typed)) == address


@pytest.mark.parametrize(
    "typed", ["", "ftp://x", "http://", "a b", "http://x:port", "http://me:pw@x", "http://x:99999"]
)
def test_what_is_no_address_ends_in_a_sentence(typed: str) -> None:
    with pytest.raises(errors.ServerError, match=r"\.$"):
        Address.parse(typed)


def test_which_ways_are_exposed() -> None:
    assert Address.parse("http://10.0.0.7").exposed and Address.parse("http://server").exposed
    assert not Address.parse("https://server").exposed
    assert not Address.parse("http://127.0.0.9:1").exposed and not Address.parse("localhost").exposed


# What the server offers


def test_describe_tells_own_from_stock(server: FakeServer, transport: Transport) -> None:
    own = run(client.describe(), transport)
    assert own.own and own.has("lungs") and own.device == "CPU, 2 threads"
    assert [concept["name"] for concept in own.concepts] == ["effusion", "healthy"]
    server.state.stock = True
    stock = run(client.describe(), transport)
    assert not stock.own and stock.has("lungs") and stock.concepts == []


def test_a_wrong_token_is_explained(server: FakeServer) -> None:
    with pytest.raises(errors.Refused, match="token file") as caught:
        run(client.describe(), transport_to(server, "wrong"))
    assert caught.value.status == 401


def test_a_job_on_an_uploaded_image(server: FakeServer, transport: Transport) -> None:
    image = picture()
    session = run(client.upload_session(finish(nrrd.encode(image)), "image.nrrd"), transport)
    said: list[Progress] = []
    server.state.job_seconds = 0.6
    result = run(client.job("lungs", client.Source(session=session), {}), transport, said.append)
    label = files.decode(result.first)
    assert np.array_equal(label.array, lungs_of(image)) and np.array_equal(label.ijk_to_ras, GRID)
    assert result.params["label_names"] == {"right lung": 1, "left lung": 2}
    assert any(progress.done and 0 < progress.done < 1 for progress in said)
    assert any("left" in progress.message for progress in said)


def test_a_failed_job_says_why(server: FakeServer, transport: Transport) -> None:
    server.state.images["a"] = finish(nrrd.encode(picture()))
    with pytest.raises(errors.JobFailed, match="edit mask"):
        run(client.job("inpaint", client.Source(image="a"), {}), transport)


def test_cancelling_ends_the_job_on_the_server_and_reports_once(
    server: FakeServer, transport: Transport
) -> None:
    server.state.images["a"] = finish(nrrd.encode(picture()))
    server.state.job_seconds = 60.0
    reports: list[object] = []
    task = Task(client.job("lungs", client.Source(image="a"), {}), transport, reports.append, reports.append)
    while not any(path == "/jobs/j1" for _, path in server.state.seen):
        task.step()
    task.cancel()
    assert len(reports) == 1 and isinstance(reports[0], errors.Cancelled), "reported at once"
    task.cancel()
    while not task.finished:
        task.step()
    assert server.state.cancelled == ["j1"] and len(reports) == 1


def test_files_given_with_a_job_arrive_unchanged(server: FakeServer, transport: Transport) -> None:
    image = picture()
    server.state.images["a"] = finish(nrrd.encode(image))
    mask = np.zeros_like(image.array, np.uint8)
    mask[0, 3:9, 4:20] = 1
    part = Part("label", finish(nrrd.encode(Image(mask, GRID))), "mask.nrrd")
    result = run(client.job("inpaint", client.Source(image="a"), {"candidates": 2}, files=[part]), transport)
    first = files.decode(result.files["candidate-1.nrrd"]).array
    assert np.array_equal(first[mask == 0], image.array[mask == 0])
    assert np.array_equal(first[mask > 0], image.array[mask > 0] + 100)
    assert len(result.params["candidates"]) == 2


def test_labels_worklist_and_skipping(server: FakeServer, transport: Transport) -> None:
    for name in ("a", "b"):
        server.state.images[name] = finish(nrrd.encode(picture()))
    assert run(client.next_image("random"), transport) == "a"
    assert run(client.next_image("random"), transport) == "b", "two clients never get the same"
    assert run(client.next_image("random"), transport) == ""
    label = finish(nrrd.encode(Image(lungs_of(picture()), GRID)))
    run(client.save_label("a", label, "label.nrrd", "final", {"right lung": 1}), transport)
    run(client.skip("b", "lateral view"), transport)
    assert server.state.labels["a"]["final"] == label and server.state.skipped == {"b": "lateral view"}
    assert server.state.label_params[0]["label_info"] == [{"name": "right lung", "idx": 1}]
    assert run(stored_label("a", "final"), transport) == label
    assert [entry["status"] for entry in run(client.worklist(), transport)] == ["labelled", "new"]


def test_learning_a_segment(server: FakeServer, transport: Transport) -> None:
    server.state.labels["a"] = {"final": b"x"}
    params = {"label": "heart", "name": "heart"}
    run(client.job("learn_segment", client.Source(), params, kind="train"), transport)
    assert [entry["name"] for entry in run(client.embeddings(), transport)] == ["heart"]


def test_a_stock_server_is_served_too(server: FakeServer, transport: Transport) -> None:
    server.state.stock = True
    image = picture()
    session = run(client.upload_session(finish(nrrd.encode(image)), "image.nrrd"), transport)
    result = run(client.stock_infer("lungs", client.Source(session=session), {}), transport)
    assert np.array_equal(files.decode(result.first).array, lungs_of(image))
    assert result.params["label_names"]["left lung"] == 2
