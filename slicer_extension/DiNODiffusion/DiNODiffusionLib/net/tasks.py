"""Work that takes a while, written as generators that advance between two breaths of the window.

A generator yields what it waits for: a `Request` (it is sent the `Response`), a `Pause`, `Progress` to show,
or `None` to let the window breathe between two pieces of computing. No thread takes part, so it does not
matter who holds Python's interpreter lock, and nothing ever touches Qt or MRML from elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Callable

from .errors import Cancelled
from .messages import Request
from .transport import Call, Transport

Steps = Generator[Any, Any, Any]

CLEAN_UP_SECONDS = 10.0


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True)
class Progress:
    """Something to show: `done` in [0, 1] or None when unknown, `preview` a PNG file."""

    done: float | None
    message: str = ""
    preview: bytes = b""


def _nothing(*_: object) -> None:
    pass


class Task:
    """Runs one generator against one server; one of `on_done(result)` and `on_error(error)` is called.

    Cancelled is an error like others; it is reported at once, while the generator may still tell the server.
    """

    def __init__(
        self,
        steps: Steps,
        transport: Transport,
        on_done: Callable[[Any], None] = _nothing,
        on_error: Callable[[Exception], None] = _nothing,
        on_progress: Callable[[Progress], None] = _nothing,
    ) -> None:
        self._steps, self._transport = steps, transport
        self._on_done, self._on_error, self._on_progress = on_done, on_error, on_progress
        self._call: Call | None = None
        self._resume = 0.0
        self._send: Any = None
        self._throw: Exception | None = None
        self._gives_up: float | None = None
        self.finished = False

    def report_to(
        self,
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
        on_progress: Callable[[Progress], None] = _nothing,
    ) -> None:
        """Who hears of it, for a task that was made before that was known."""
        self._on_done, self._on_error, self._on_progress = on_done, on_error, on_progress

    @property
    def reported(self) -> bool:
        """Whether the caller has had its answer; what goes on after that is clean-up."""
        return self.finished or self._gives_up is not None

    def step(self) -> bool:
        """Advances without waiting; says whether anything moved."""
        if self.finished:
            return False
        if self._gives_up is not None and time.monotonic() > self._gives_up:
            self._end()
            return True
        if self._call is not None:
            moved = self._call.step()
            if not self._call.finished:
                return moved
            self._send, self._throw = self._call.response, self._call.error
            self._call = None
        elif time.monotonic() < self._resume:
            return False
        self._advance()
        return True

    @property
    def flowing(self) -> bool:
        return self._call is not None and self._call.flowing

    def _advance(self) -> None:
        send, throw = self._send, self._throw
        self._send = self._throw = None
        try:
            wanted = self._steps.throw(throw) if throw is not None else self._steps.send(send)
        except StopIteration as stop:
            self._report(self._on_done, stop.value)
            return
        except Exception as error:
            # Whatever it is, the person who waits hears of it.
            self._report(self._on_error, error)
            return
        if isinstance(wanted, Request):
            self._call = Call(self._transport, wanted)
        elif isinstance(wanted, Pause):
            self._resume = time.monotonic() + wanted.seconds
        elif isinstance(wanted, Progress) and not self.reported:
            self._on_progress(wanted)

    def _report(self, callback: Callable[[Any], None], value: Any) -> None:
        already = self.reported
        self._end()
        if not already:
            callback(value)

    def _end(self) -> None:
        self.finished = True
        if self._call is not None:
            self._call.close()
        self._steps.close()

    def cancel(self) -> None:
        """Ends the task for the caller now; the server is told within the next ticks."""
        if self.reported:
            return
        if self._call is not None:
            self._call.close()
            self._call = None
        self._send, self._throw, self._resume = None, Cancelled("Cancelled."), 0.0
        self._gives_up = time.monotonic() + CLEAN_UP_SECONDS
        self._on_error(Cancelled("Cancelled."))


def run(steps: Steps, transport: Transport, on_progress: Callable[[Progress], None] = _nothing) -> Any:
    """Runs a generator to its end and waits for it: for scripts and tests, never in the application.

    Raises:
        Exception: whatever the generator raised.
    """
    outcome: list = []
    task = Task(
        steps,
        transport,
        lambda value: outcome.append((value, None)),
        lambda error: outcome.append((None, error)),
        on_progress,
    )
    while not task.finished:
        if not task.step():
            time.sleep(0.002)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value
