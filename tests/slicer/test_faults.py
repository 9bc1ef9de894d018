"""Everything that can go wrong between client and server ends in one sentence."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme
from DiNODiffusionLib.codec import nrrd
from DiNODiffusionLib.net import client, errors
from DiNODiffusionLib.net.address import Address, tls_context
from DiNODiffusionLib.net.messages import Request, ResponseReader
from DiNODiffusionLib.net.tasks import Progress, run
from DiNODiffusionLib.net.transport import Call, Transport

from tests.slicer.fake_server import TOKEN, FakeServer, Handler, finish
from tests.slicer.test_client import get, picture


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(errors.Unreachable, match="start it, or correct address"):
        run(client.describe(), Transport(Address.parse(f"127.0.0.1:{port}")))


def test_an_unknown_name() -> None:
    with pytest.raises(errors.Unreachable, match="spelling"):
        run(client.describe(), Transport(Address.parse("http://no-such-host.invalid")))


def test_a_name_is_looked_up_beside_the_window() -> None:
    call = Call(Transport(Address.parse("http://no-such-host.invalid")), get())
    steps = 0
    while not call.finished:
        call.step()
        steps += 1
    assert steps > 1


def status(code: int, body: bytes = b"", kind: str = "text/html", **headers: str):
    def fault(handler: Handler) -> bool:
        handler.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        return True

    return fault


@pytest.mark.parametrize(
    ("code", "body", "kind", "words"),
    [
        (500, b"<h1>Internal Server Error</h1>", "text/html", "its log says why"),
        (504, b"", "text/html", "gave up waiting"),
        (
            422,
            b'{"detail": "candidates must be at least 1"}',
            "application/json",
            "candidates must be at least 1.",
        ),
        (422, b'{"detail": [{"loc": ["x"]}]}', "application/json", "refused the request"),
        (413, b"{broken", "application/json", "larger than the server accepts"),
    ],
)
def test_error_answers_become_sentences(
    server: FakeServer, transport: Transport, code: int, body: bytes, kind: str, words: str
) -> None:
    server.state.fault = status(code, body, kind)
    with pytest.raises(errors.Refused, match=words) as caught:
        run(client.worklist(), transport)
    assert caught.value.status == code


def test_a_full_queue_says_when_to_come_back(server: FakeServer, transport: Transport) -> None:
    server.state.fault = status(
        429, b'{"detail": "The queue is full"}', "application/json", **{"Retry-After": "70"}
    )
    with pytest.raises(errors.Refused, match="queue is full") as caught:
        run(client.job("lungs", client.Source(image="a"), {}), transport)
    assert caught.value.retry_after == 70


def test_a_queue_that_is_full_for_a_moment_is_asked_again(server: FakeServer, transport: Transport) -> None:
    server.state.images["a"] = finish(nrrd.encode(picture()))
    busy = status(429, b'{"detail": "The queue is full"}', "application/json", **{"Retry-After": "0"})
    posts: list[str] = []

    def full_twice(handler: Handler) -> bool:
        if handler.command != "POST":
            return False
        posts.append(handler.path)
        return len(posts) <= 2 and busy(handler)

    server.state.fault = full_twice
    said: list[Progress] = []
    result = run(client.job("lungs", client.Source(image="a"), {}), transport, said.append)
    assert len(posts) == 3 and result.files and "queue is full" in said[0].message


def test_a_redirect_is_not_followed(server: FakeServer, transport: Transport) -> None:
    server.state.fault = status(307, Location="http://elsewhere.example/info/")
    with pytest.raises(errors.Refused, match=r"elsewhere\.example"):
        run(client.describe(), transport)
    assert len(server.state.seen) == 1, "the token went nowhere else"


def test_html_where_json_was_expected(server: FakeServer, transport: Transport) -> None:
    server.state.fault = status(200, b"<html>hello</html>")
    with pytest.raises(errors.BadAnswer, match="MONAI Label"):
        run(client.describe(), transport)
    server.state.fault = status(200, b"[1, 2]", "application/json")
    with pytest.raises(errors.BadAnswer, match="MONAI Label"):
        run(client.describe(), transport)


def test_an_answer_too_large_is_refused_before_it_is_stored(server: FakeServer, transport: Transport) -> None:
    server.state.fault = status(200, **{"Content-Length": str(1 << 40)})
    with pytest.raises(errors.BadAnswer, match="larger than"):
        run(client.ask_json(get()), transport)


def truncated(handler: Handler) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 10)
    handler.close_connection = True
    return True


def test_a_truncated_answer_is_asked_for_again_and_then_reported(
    server: FakeServer, transport: Transport
) -> None:
    server.state.fault = truncated
    with pytest.raises(errors.BadAnswer, match="middle of its answer"):
        run(client.ask_json(get()), transport)
    assert len(server.state.seen) == 3, "twice more, because asking again does no harm"
    server.state.seen.clear()
    with pytest.raises(errors.BadAnswer):
        run(client.ask_json(Request("POST", "/x")), transport)
    assert len(server.state.seen) == 1, "a POST is not repeated"


def test_silence_times_out(server: FakeServer, transport: Transport) -> None:
    release = threading.Event()
    server.state.fault = lambda handler: release.wait(20) and False
    try:
        with pytest.raises(errors.TimedOut, match="silent for 0 s"):
            run(client.ask_json(get(silence=0.3)), transport)
    finally:
        release.set()


def test_a_server_that_takes_no_connection_times_out() -> None:
    # A listening socket whose queue is full leaves further connections hanging.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        where = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(where)
        try:
            with pytest.raises(errors.TimedOut, match="does not answer within"):
                run(client.describe(), Transport(Address.parse(f"127.0.0.1:{where[1]}"), connect_seconds=0.4))
        finally:
            for filler in fillers:
                filler.close()


def test_what_speaks_no_http_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def greet() -> None:
            other, _ = listener.accept()
            other.sendall(b"SSH-2.0-OpenSSH_9\r\n")
            time.sleep(0.2)
            other.close()

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(errors.BadAnswer, match="does not speak HTTP"):
            run(client.describe(), Transport(Address.parse(f"127.0.0.1:{listener.getsockname()[1]}")))


def test_connections_are_kept_and_a_closed_one_is_replaced(server: FakeServer, transport: Transport) -> None:
    for _ in range(5):
        run(client.worklist(), transport)
    assert server.state.connections == 1
    transport._idle._socket.shutdown(socket.SHUT_RDWR)
    assert run(client.worklist(), transport) == []
    assert server.state.connections == 2


def test_a_server_killed_in_the_middle_of_a_job_ends_in_a_sentence(
    server: FakeServer, transport: Transport
) -> None:
    server.state.images["a"] = finish(nrrd.encode(picture()))
    server.state.job_seconds = 60.0

    def dies(handler: Handler) -> bool:
        if handler.path.startswith("/jobs/j1"):
            handler.close_connection = True
            return True
        return False

    server.state.fault = dies
    with pytest.raises(errors.Unreachable, match="still running"):
        run(client.job("lungs", client.Source(image="a"), {}), transport)


def test_the_window_may_be_slow_to_look(server: FakeServer, transport: Transport) -> None:
    """Everything arrives while nobody looks; one step later it is there."""
    call = Call(transport, Request("GET", "/info/"))
    while not call.finished:
        call.step()
        time.sleep(0.02)
    assert json.loads(call.response.body)["name"] == "Fake"


def test_answers_are_read_in_pieces_of_any_size() -> None:
    whole = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
        b"4;name=v\r\nWiki\r\n6\r\npedia \r\n0\r\nTrailer: x\r\n\r\n"
    )
    for size in (1, 2, 3, 7, len(whole)):
        reader = ResponseReader("GET")
        for start in range(0, len(whole), size):
            reader.feed(whole[start : start + size])
        assert reader.response is not None and reader.response.body == b"Wikipedia "
        assert reader.response.status == 200 and reader.response.headers["x-a"] == "b" and reader.reusable


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    reader = ResponseReader("GET")
    reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert reader.response is None
    reader.feed(b"")
    assert reader.response is not None and reader.response.body == b"abc" and not reader.reusable


def test_no_line_break_gets_into_a_head() -> None:
    with pytest.raises(ValueError, match="line break"):
        Request("GET", "/x").head("host", "", "token\r\nX-Evil: 1")


def test_the_token_shows_in_no_text(transport: Transport) -> None:
    assert TOKEN not in repr(transport) and TOKEN not in str(transport)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return str(tmp_path / "authority.pem")


@pytest.fixture
def https(authority: trustme.CA) -> Iterator[int]:
    seen: list[str] = []

    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"a": 1}')

        def log_message(self, *_: object) -> None:
            pass

    class Patient(HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    made = Patient(("127.0.0.1", 0), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield made.server_port
    assert all(path == "/ok" for path in seen), "nothing is asked over a connection that is not trusted"
    made.shutdown()
    made.server_close()


def test_a_certificate_that_nobody_vouches_for_is_refused(https: int) -> None:
    address = Address.parse(f"https://localhost:{https}")
    with pytest.raises(errors.NotTrusted, match="nothing was sent"):
        run(client.ask_json(get("/secret")), Transport(address, TOKEN, tls_context(address)))


def test_a_certificate_of_a_named_authority_is_accepted_for_its_host_only(
    https: int, authority_file: str
) -> None:
    address = Address.parse(f"https://localhost:{https}")
    context = tls_context(address, authority_file)
    assert run(client.ask_json(get("/ok")), Transport(address, TOKEN, context)) == {"a": 1}
    with pytest.raises(errors.NotTrusted, match="not trusted"):
        run(
            client.ask_json(get("/secret")),
            Transport(Address.parse(f"https://127.0.0.1:{https}"), TOKEN, context),
        )


def test_https_to_a_plain_server_is_explained(server: FakeServer) -> None:
    address = Address.parse(f"https://127.0.0.1:{server.port}")
    with pytest.raises(errors.NotTrusted, match="speak https"):
        run(client.describe(), Transport(address, TOKEN, tls_context(address)))


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    with pytest.raises(errors.NotTrusted, match=r"x\.pem"):
        tls_context(Address.parse("https://x"), str(tmp_path / "x.pem"))
