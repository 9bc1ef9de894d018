"""One piece of work and all that is told about it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

MODEL_LANE = "model"
"""The queue of everything that uses the model."""

Result = dict[str, Any]
"""What a job's work returns: JSON."""


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass
class Job:
    """`work` runs in a model worker's thread; times are seconds since 1970."""

    kind: str
    model: str
    client: str
    folder: Path | None
    """Where its files lie; None for work whose answer goes straight to the client that waits."""
    work: Callable[[], Result] | None = None
    image: str | None = None
    lane: str = MODEL_LANE
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: State = State.QUEUED
    progress: float = 0.0
    message: str = ""
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    error: str | None = None
    status: int = 200
    """The HTTP status that fits `error`."""
    params: Result = field(default_factory=dict)
    preview: bytes | None = None
    """PNG."""
    changes: int = 0
    """Grows with everything that is worth telling a listener."""
    cancel_wanted: threading.Event = field(default_factory=threading.Event)
    finished: Future[None] = field(default_factory=Future)
    """Done when the job has ended and its end is on disk."""

    def changed(self) -> None:
        self.changes += 1

    def files(self) -> list[Path]:
        """What the work left, by name; its inputs, in a folder of their own, do not count."""
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_file() and path.name[0] != ".")

    def eta(self, now: float | None = None) -> float | None:
        """Seconds until a running job ends, if its pace stays; None before it can be told."""
        if self.state is not State.RUNNING or self.started is None or self.progress <= 0.01:
            return None
        elapsed = (time.time() if now is None else now) - self.started
        return max(0.0, elapsed * (1 - self.progress) / self.progress)
