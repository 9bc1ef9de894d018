"""What one server is told, and where it keeps its things."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MEGABYTE = 1024 * 1024


def default_state() -> Path:
    """Where a program of this person keeps state (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "dino-diffusion"


@dataclass(frozen=True)
class ServerSettings:
    """One server. Every path below `state` is the server's own; nothing else is written but labels."""

    studies: str
    """A folder of radiographs, or the URL of a DICOMweb service."""
    state: Path
    token: str | None
    """Nobody without it gets in; None: everybody on this machine does."""
    cors: tuple[str, ...] = ()
    """Origins whose web pages may call the server."""
    max_upload: int = 512 * MEGABYTE
    """Bytes of one request's body."""
    queue_limit: int = 64
    """Jobs that wait, of all clients together."""
    client_limit: int = 24
    """Jobs that wait, of one client."""
    keep_days: float = 7.0
    """How long finished jobs and their files are kept."""
    conf: Mapping[str, str] = field(default_factory=dict)
    """The app's own settings, as MONAI Label's `--conf`."""

    @property
    def app(self) -> Path:
        """The thin app folder that MONAI Label wants."""
        return self.state / "app"

    @property
    def jobs(self) -> Path:
        return self.state / "jobs"

    @property
    def sessions(self) -> Path:
        return self.state / "sessions"

    @property
    def log(self) -> Path:
        return self.state / "logs" / "server.jsonl"
