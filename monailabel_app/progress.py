"""How far the work of the current thread is: said by tasks, heard by whoever runs them.

Infer tasks and trainers call `report` at least once a denoising step. Whoever runs one sets `current` in the
worker thread; where nobody did, nobody listens. An implementation raises `dino_diffusion.errors.Cancelled`
from `report` to stop the work: tasks let that through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from PIL.Image import Image


class Progress(Protocol):
    """A listener of one piece of work."""

    def report(self, done: float, message: str = "", preview: Image | None = None) -> None:
        """`done` in [0, 1]; `message` for a person; `preview`: what the result looks like so far.

        Raises Cancelled to stop the work.
        """


class Ignored:
    """Nobody listens."""

    def report(self, done: float, message: str = "", preview: Image | None = None) -> None:
        """Drops the report."""


current: ContextVar[Progress] = ContextVar("progress", default=Ignored())  # noqa: B039 (it has no state)
"""Who listens in this thread."""

folder: ContextVar[Path | None] = ContextVar("folder", default=None)
"""Where a job keeps its files. With it a task writes all of them there: every candidate with mask and recipe,
named in `params`, the first one being the path that it returns. Without it, as on the stock route `/infer`,
it makes one temporary file for the caller to remove. No request can set it."""


def report(done: float, message: str = "", preview: Image | None = None) -> None:
    """Tells the current listener. Raises Cancelled where the work is to stop."""
    current.get().report(done, message, preview)


def heard() -> bool:
    """Whether anybody listens: previews are not made for nobody."""
    return not isinstance(current.get(), Ignored)


@contextmanager
def part(start: float, end: float, message: str) -> Iterator[None]:
    """What is reported inside is the part from `start` to `end` of a larger work, which `message` names."""
    listener = current.get()

    class Part:
        def report(self, done: float, said: str = "", preview: Image | None = None) -> None:
            """See Progress."""
            listener.report(start + (end - start) * done, message, preview)

    if isinstance(listener, Ignored):
        yield
        return
    token = current.set(Part())
    try:
        yield
    finally:
        current.reset(token)
