"""What every route needs: the app, the jobs, the settings; and who is asking."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from monailabel.interfaces.app import MONAILabelApp

from monailabel_app.server.jobs import Job, Jobs, State
from monailabel_app.server.metrics import Metrics
from monailabel_app.server.settings import ServerSettings

DISCONNECT_EVERY = 0.5
CLIENT_LENGTH = 100


@dataclass
class Server:
    """One running server. `instance` is there once it has started."""

    settings: ServerSettings
    jobs: Jobs
    metrics: Metrics
    loaded: MONAILabelApp | None = None

    @property
    def instance(self) -> MONAILabelApp:
        if self.loaded is None:
            raise HTTPException(503, "The server is starting; try again in a moment.", {"Retry-After": "2"})
        return self.loaded


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


Context = Annotated[Server, Depends(server_of)]


def client_of(request: Request, params: dict[str, Any] | None = None) -> str:
    """Whom fairness counts as one: the X-Client-Id header, MONAI Label's client_id, else the address."""
    named = request.headers.get("x-client-id") or (params or {}).get("client_id")
    if isinstance(named, str) and named.strip():
        return named.strip()[:CLIENT_LENGTH]
    return request.client.host if request.client else "local"


@contextmanager
def scratch(server: Server) -> Iterator[Path]:
    """A folder for the files of one request, gone at its end."""
    base = server.settings.state / "requests"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def finished(server: Server, job: Job, request: Request) -> Job:
    """Waits without blocking anyone; a client that goes away takes its job with it.

    Raises HTTPException where the job did not end well.
    """
    waiting = asyncio.wrap_future(job.finished)
    try:
        while not (await asyncio.wait({waiting}, timeout=DISCONNECT_EVERY))[0]:
            if await request.is_disconnected():
                server.jobs.cancel(job)
    except asyncio.CancelledError:
        server.jobs.cancel(job)
        raise
    if job.state is not State.DONE:
        raise HTTPException(job.status, job.error or "The job failed.")
    return job
