"""HTTP/1.1 messages: a request's bytes, an answer read piece by piece, multipart bodies both ways."""

from __future__ import annotations

import http.client
import io
import json
import re
import secrets
from dataclasses import dataclass, field

from .errors import BadAnswer, Unreachable

CUT_SHORT = "The server closed the connection in the middle of its answer: try again."
HEAD_LIMIT = 64 * 1024
ANSWER_LIMIT = 1 << 30
"""Bytes of an answer that are accepted unless a request says otherwise."""


@dataclass(frozen=True)
class Request:
    """One request. `silence` is how many seconds without a byte from the server are borne."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    silence: float = 30.0
    limit: int = ANSWER_LIMIT

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no harm."""
        return self.method in ("GET", "HEAD", "DELETE")

    def head(self, authority: str, prefix: str, token: str, client: str = "") -> bytes:
        """Request line and headers as they go over the wire."""
        lines = [f"{self.method} {prefix}{self.path} HTTP/1.1", f"Host: {authority}", "Accept: */*"]
        lines += ["Accept-Encoding: identity", "User-Agent: SlicerDiNODiffusion/1"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if client:
            lines.append(f"X-Client-Id: {client}")
        if self.body or self.method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(self.body)}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a line break in a request's head")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass
class Response:
    """A complete answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """Media type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> object:
        """The body as JSON.

        Raises:
            BadAnswer: it is something else.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            kind = self.kind or "something unnamed"
            raise BadAnswer(
                f"The server answered with {kind} where JSON was expected: is this a MONAI Label server?"
            ) from None


class ResponseReader:
    """Reads an answer from pieces of any size: `feed` them, then look at `response`."""

    def __init__(self, method: str, limit: int = ANSWER_LIMIT) -> None:
        self.method, self.limit = method, limit
        self.response: Response | None = None
        self.reusable = False
        self.started = False
        self._buffer = bytearray()
        self._body = bytearray()
        self._head: tuple[int, dict[str, str]] | None = None
        self._expected: int | None = None
        self._chunked = False
        self._chunk_left: int | None = None

    @property
    def received(self) -> int:
        return len(self._body)

    @property
    def expected(self) -> int | None:
        """Bytes of the body, where the server said so."""
        return self._expected

    def feed(self, data: bytes) -> None:
        """Takes what arrived; empty bytes mean that the server closed the connection.

        Raises:
            BadAnswer: it is no HTTP, too large, or ends too early.
        """
        self.started = self.started or bool(data)
        if self._head is None:
            self._buffer += data
            self._read_head()
            if self._head is None:
                if not data and not self._buffer:
                    raise Unreachable(
                        "The server closed the connection without an answer: is it still running?"
                    )
                if not data:
                    raise BadAnswer(CUT_SHORT)
                return
            data_left, closed = bytes(self._buffer), not data
            self._buffer.clear()
        else:
            data_left, closed = data, not data
        self._read_body(data_left, closed)

    def _read_head(self) -> None:
        while self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if not b"HTTP/".startswith(bytes(self._buffer[:5])):
                raise BadAnswer("What answers at this address does not speak HTTP: check the port.")
            if end < 0:
                if len(self._buffer) > HEAD_LIMIT:
                    raise BadAnswer("The server's answer has no proper head: is this a MONAI Label server?")
                return
            head = io.BytesIO(bytes(self._buffer[: end + 4]))
            del self._buffer[: end + 4]
            line = head.readline().decode("latin-1").split(None, 2)
            try:
                status = int(line[1])
                parsed = http.client.parse_headers(head)
            except (ValueError, IndexError, http.client.HTTPException):
                raise BadAnswer(
                    "The server's answer has no proper head: is this a MONAI Label server?"
                ) from None
            if 100 <= status < 200:
                continue
            headers = {name.lower(): value for name, value in parsed.items()}
            self._head = (status, headers)
            self.reusable = line[0] == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
            self._frame(status, headers)

    def _frame(self, status: int, headers: dict[str, str]) -> None:
        if self.method == "HEAD" or status in (204, 304):
            self._expected = 0
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunked = True
        elif "content-length" in headers:
            if not headers["content-length"].strip().isdigit():
                raise BadAnswer("The server's answer names no proper length.")
            self._expected = int(headers["content-length"])
            self._check(self._expected)
        else:
            self.reusable = False

    def _check(self, size: int) -> None:
        if size > self.limit:
            raise BadAnswer(
                f"The server's answer is larger than {self.limit / 1e6:.0f} MB, the most that is accepted"
                " here."
            )

    def _read_body(self, data: bytes, closed: bool) -> None:
        if self._chunked:
            self._buffer += data
            done = self._read_chunks()
        else:
            self._body += data
            done = len(self._body) >= self._expected if self._expected is not None else closed
        self._check(len(self._body))
        if done:
            status, headers = self._head or (0, {})
            whole = bytes(self._body if self._expected is None else self._body[: self._expected])
            self.response = Response(status, headers, whole)
        elif closed:
            raise BadAnswer(CUT_SHORT)

    def _read_chunks(self) -> bool:
        while True:
            if self._chunk_left is None:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return False
                size = bytes(self._buffer[:end]).partition(b";")[0].strip()
                if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                    raise BadAnswer("The server's answer is broken (chunk size).")
                self._chunk_left = int(size, 16)
                self._check(len(self._body) + self._chunk_left)
                del self._buffer[: end + 2]
            if self._chunk_left == 0:
                # Trailers are not used here; an empty line ends them.
                if self._buffer[:2] == b"\r\n":
                    return True
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return False
                del self._buffer[: end + 2]
                continue
            if len(self._buffer) < self._chunk_left + 2:
                return False
            self._body += self._buffer[: self._chunk_left]
            del self._buffer[: self._chunk_left + 2]
            self._chunk_left = None


@dataclass(frozen=True)
class Part:
    """One part of a form; `filename` makes it a file."""

    name: str
    content: bytes
    filename: str = ""
    media_type: str = ""


def encode_form(parts: list[Part]) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Headers and body of `multipart/form-data`."""
    boundary = "dino-" + secrets.token_hex(16)
    body = bytearray()
    for part in parts:
        disposition = f'form-data; name="{_quoted(part.name)}"'
        if part.filename:
            disposition += f'; filename="{_quoted(part.filename)}"'
        kind = part.media_type or (
            "application/octet-stream" if part.filename else "text/plain; charset=utf-8"
        )
        body += f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n".encode()
        body += part.content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return (("Content-Type", f"multipart/form-data; boundary={boundary}"),), bytes(body)


def _quoted(text: str) -> str:
    return text.replace("\\", "_").replace('"', "%22").replace("\r", "").replace("\n", "")


def decode_form(response: Response) -> dict[str, Part]:
    """The parts of a `multipart/form-data` answer by name.

    Raises:
        BadAnswer: it is none, or is cut short.
    """
    found = re.search(r'boundary="?([^";]+)"?', response.headers.get("content-type", ""))
    if response.kind != "multipart/form-data" or not found:
        raise BadAnswer(
            f"The server answered with {response.kind or 'something unnamed'} where a form was expected."
        )
    pieces = (b"\r\n" + response.body).split(b"\r\n--" + found[1].encode("latin-1"))
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise BadAnswer("The server's answer is cut short: try again.")
    parts = {}
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        headers = http.client.parse_headers(io.BytesIO(head.lstrip(b"\r\n") + b"\r\n\r\n"))
        name = headers.get_param("name", "", "content-disposition")
        filename = headers.get_param("filename", "", "content-disposition")
        parts[str(name)] = Part(str(name), content, str(filename), headers.get("content-type", ""))
    return parts
