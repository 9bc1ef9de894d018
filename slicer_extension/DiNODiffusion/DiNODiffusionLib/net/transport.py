"""Requests with their connections, time-outs and retries, advanced a step at a time."""

from __future__ import annotations

import secrets
import ssl
import time

from .address import Address
from .connection import CONNECT_SECONDS, Connection
from .errors import BadAnswer, Refused, ServerError, TimedOut, Unreachable, meaning_of
from .messages import CUT_SHORT, Request, Response, ResponseReader

IDLE_SECONDS = 20.0
"""A kept connection older than this is not used again: servers and proxies close idle ones unannounced."""

RETRY_PAUSES = (0.3, 1.0)


class Transport:
    """A server's address with token and trust; keeps one idle connection for the next request.

    The token lives in this object only and is never written anywhere.
    """

    def __init__(
        self,
        address: Address,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self.address, self.token, self.tls = address, token, tls
        self.connect_seconds = connect_seconds
        # Tells the server which requests come from one person, for a fair queue; made anew each time.
        self.client = "slicer-" + secrets.token_hex(8)
        self._idle: Connection | None = None

    def __repr__(self) -> str:
        return f"Transport({self.address})"

    def take(self, fresh: bool) -> Connection:
        """An open idle connection, or a new one that still has to open."""
        idle, self._idle = self._idle, None
        if idle is not None:
            if not fresh and time.monotonic() - idle.idle_since < IDLE_SECONDS:
                return idle
            idle.close()
        return Connection(self.address, self.tls, self.connect_seconds)

    def give_back(self, connection: Connection) -> None:
        if self._idle is not None:
            self._idle.close()
        connection.used, connection.idle_since = True, time.monotonic()
        self._idle = connection

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None


class Call:
    """One request until its answer: `step` until `finished`, then `response` or `error`.

    A request that does no harm twice is repeated where the connection breaks; a kept connection that turns
    out
    closed is replaced. Anything else goes over a fresh connection, once.
    """

    def __init__(self, transport: Transport, request: Request) -> None:
        self.transport, self.request = transport, request
        self.response: Response | None = None
        self.error: ServerError | None = None
        self._pauses = list(RETRY_PAUSES) if request.repeatable else []
        self._resume = 0.0
        self._begin(fresh=not request.repeatable)

    @property
    def finished(self) -> bool:
        return self.response is not None or self.error is not None

    @property
    def flowing(self) -> bool:
        """Whether bytes are on their way, so that it pays to look again at once."""
        return bool(self._left) or self._reader.started

    def _begin(self, fresh: bool) -> None:
        transport, request = self.transport, self.request
        self._connection = transport.take(fresh)
        head = request.head(
            transport.address.authority, transport.address.path, transport.token, transport.client
        )
        self._left = memoryview(head + request.body)
        self._reader = ResponseReader(request.method, request.limit)
        self._heard = time.monotonic()

    def step(self) -> bool:
        """Moves what can be moved without waiting; says whether anything did."""
        if self.finished or time.monotonic() < self._resume:
            return False
        try:
            return self._move()
        except ServerError as error:
            self._broken(error)
        except OSError as error:
            self._broken(
                Unreachable(
                    f"The server at {self.transport.address} broke the connection ({error.strerror}):"
                    " is it still running?"
                )
            )
        return True

    def _move(self) -> bool:
        if not self._connection.open:
            moved = self._connection.advance()
            self._heard = time.monotonic()
            return moved
        moved = False
        if self._left:
            sent = self._connection.send(self._left)
            self._left = self._left[sent:]
            moved = sent > 0
        data = self._connection.receive()
        if data is not None:
            self._reader.feed(data)
            moved = True
        if moved:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > self.request.silence:
            raise TimedOut(
                f"The server has been silent for {self.request.silence:.0f} s: it may be overloaded; try"
                " again."
            )
        if self._reader.response is not None:
            self._complete(self._reader.response)
        return moved

    def _complete(self, response: Response) -> None:
        if self._reader.reusable and not self._left:
            self.transport.give_back(self._connection)
        else:
            self._connection.close()
        if 200 <= response.status < 300:
            self.response = response
        else:
            self.error = _refusal(response)

    def _broken(self, error: ServerError) -> None:
        was_idle = self._connection.used and not self._reader.started
        self._connection.close()
        if was_idle and self.request.repeatable:
            self._begin(fresh=True)
        elif self._pauses and isinstance(error, (Unreachable, BadAnswer)) and self._worth_again(error):
            self._resume = time.monotonic() + self._pauses.pop(0)
            self._begin(fresh=True)
        else:
            self.error = error

    def _worth_again(self, error: ServerError) -> bool:
        """A connection that broke may hold next time; one that never opened will not."""
        broke = self._connection.used or not self._left
        return (
            broke
            and not isinstance(error, TimedOut)
            and (isinstance(error, Unreachable) or str(error) == CUT_SHORT)
        )

    def close(self) -> None:
        """Gives up: the connection is closed, which tells the server."""
        self._connection.close()
        if not self.finished:
            self.error = Unreachable("The request was given up.")


def _refusal(response: Response) -> Refused:
    detail = ""
    if 300 <= response.status < 400:
        detail = response.headers.get("location", "")
    elif response.kind == "application/json":
        try:
            told = response.json()
            detail = told.get("detail", "") if isinstance(told, dict) else ""
        except BadAnswer:
            detail = ""
        if not isinstance(detail, str):
            detail = ""
    after = response.headers.get("retry-after", "")
    wait = float(after) if after.isdigit() else None
    return Refused(meaning_of(response.status, detail.strip()[:500]), response.status, wait)
