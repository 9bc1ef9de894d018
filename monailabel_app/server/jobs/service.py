"""Jobs from submission to end: queue, one worker thread a device, disk."""

from __future__ import annotations

import contextvars
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from dino_diffusion.errors import Cancelled
from monailabel_app import progress
from monailabel_app.server.errors import explain
from monailabel_app.server.jobs.job import Job, State
from monailabel_app.server.jobs.listener import JobProgress
from monailabel_app.server.jobs.queue import FairQueue, QueueFull
from monailabel_app.server.jobs.store import INTERRUPTED, JobStore

logger = logging.getLogger(__name__)
PRUNE_EVERY = 600.0
RETRY_AFTER = "5"


@dataclass(frozen=True)
class Lane:
    """A queue and how many threads work on it."""

    queue: FairQueue[Job]
    workers: int = 1


class Jobs:
    """All jobs of a server. Every method may be called from any thread."""

    def __init__(
        self, store: JobStore, lanes: Mapping[str, Lane], keep_seconds: float,
        on_end: Callable[[Job], None] | None = None,
    ) -> None:  # fmt: skip
        self.store, self._queues = store, {name: lane.queue for name, lane in lanes.items()}
        self._keep, self._on_end = keep_seconds, on_end or (lambda job: None)
        self._active: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pruned, self._stopping = 0.0, False
        self._durations: dict[str, float] = {}
        self._threads = [
            threading.Thread(
                target=self._work, args=(lane.queue,), name=f"{name}-worker-{index}", daemon=True
            )
            for name, lane in lanes.items()
            for index in range(lane.workers)
        ]

    def start(self) -> None:
        self.prune()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Asks running jobs to end and waits; queued ones are marked at the next start."""
        self._stopping = True
        for queue in self._queues.values():
            queue.close()
        for job in self.active():
            job.cancel_wanted.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout)

    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(map(len, self._queues.values()))

    def submit(self, job: Job) -> Job:
        """Queues it. Raises HTTPException 429 where the queue is full; nothing is left of the job then."""
        with self._lock:
            self._active[job.id] = job
        if job.folder is not None:
            self.store.save(job)
        try:
            self._queues[job.lane].put(job.client, job)
        except QueueFull as full:
            self._forget(job)
            raise HTTPException(429, str(full), {"Retry-After": RETRY_AFTER}) from full
        return job

    def get(self, job_id: str) -> Job:
        """404 for one that is not there."""
        with self._lock:
            job = self._active.get(job_id)
        job = job or self.store.load(job_id)
        if job is None or job.folder is None:
            raise HTTPException(404, "There is no such job; GET /jobs lists yours.")
        return job

    def of_client(self, client: str) -> list[Job]:
        """Newest first."""
        with self._lock:
            active = dict(self._active)
        return [active.get(job.id, job) for job in self.store.of_client(client)]

    def of_kind(self, kind: str) -> list[Job]:
        """Of all clients, newest first."""
        with self._lock:
            active = dict(self._active)
        return [active.get(job.id, job) for job in self.store.of_kind(kind)]

    def active(self) -> list[Job]:
        """Waiting and running ones."""
        with self._lock:
            return list(self._active.values())

    def cancel(self, job: Job) -> None:
        """A waiting job ends now, a running one at its next report. An ended one stays as it is."""
        job.cancel_wanted.set()
        if self._queues[job.lane].remove(job):
            self._end(job, State.CANCELLED, 409, "The job was cancelled.")

    def remove(self, job: Job) -> None:
        """An ended job and its files."""
        self._forget(job)

    def position(self, job: Job) -> int | None:
        """How many come before it, counting running ones; None once it runs."""
        if job.state is not State.QUEUED:
            return None
        order = self._queues[job.lane].order()
        return order.index(job) + 1 if job in order else 0

    def eta(self, job: Job) -> float | None:
        """Seconds until it ends; for a waiting job, from how long its like took before."""
        if job.state is not State.QUEUED:
            return job.eta()
        ahead = self._queues[job.lane].order()
        ahead = ahead[: ahead.index(job) + 1] if job in ahead else [job]
        known = [self._durations.get(f"{other.kind} {other.model}") for other in ahead]
        running = [
            other.eta() for other in self.active() if other.state is State.RUNNING and other.lane == job.lane
        ]
        if any(value is None for value in (*known, *running)):
            return None
        return sum(filter(None, known)) + sum(filter(None, running))

    def prune(self) -> None:
        """Removes ended jobs that are older than is kept."""
        self._pruned = time.monotonic()
        for job in self.store.ended_before(time.time() - self._keep):
            self._forget(job)

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._active.pop(job.id, None)
        if job.folder is not None:
            self.store.remove(job.id)
            shutil.rmtree(job.folder, ignore_errors=True)

    def _work(self, queue: FairQueue[Job]) -> None:
        while (job := queue.get()) is not None:
            # A context of its own: nothing that one job sets is seen by the next.
            try:
                contextvars.Context().run(self._run, job)
            except Exception:  # its end could not be written down; the next job must still run
                logger.exception("the end of a job could not be kept")
            if time.monotonic() - self._pruned > PRUNE_EVERY:
                self.prune()

    def _run(self, job: Job) -> None:
        progress.current.set(JobProgress(job))
        progress.folder.set(job.folder)
        job.state, job.started = State.RUNNING, time.time()
        job.changed()
        try:
            if job.cancel_wanted.is_set():
                raise Cancelled("cancelled before it began")
            assert job.work is not None
            job.params = finite(job.work())
        except Cancelled:
            if self._stopping:
                self._end(job, State.FAILED, 503, INTERRUPTED)
            else:
                self._end(job, State.CANCELLED, 409, "The job was cancelled.")
        except BaseException as error:  # a worker that died would leave every later job waiting
            self._end(job, State.FAILED, *explain(error))
        else:
            took = time.time() - job.started
            name = f"{job.kind} {job.model}"
            self._durations[name] = 0.5 * (self._durations.get(name, took) + took)
            job.progress = 1.0
            self._end(job, State.DONE)

    def _end(self, job: Job, state: State, status: int = 200, error: str | None = None) -> None:
        job.status, job.error, job.ended, job.work = status, error, time.time(), None
        job.state = state
        try:
            if job.folder is not None:
                shutil.rmtree(job.folder / "inputs", ignore_errors=True)
                self.store.save(job)
        finally:
            with self._lock:
                self._active.pop(job.id, None)
            job.changed()
            try:
                self._on_end(job)
            finally:
                _settle(job.finished)


def _settle(future: Future[None]) -> None:
    # Whoever waited may have gone.
    if future.set_running_or_notify_cancel():
        future.set_result(None)


def finite(value: Any) -> Any:
    """`value` as JSON takes it: NaN and infinities become null, numpy's numbers Python's, keys strings."""
    if isinstance(value, dict):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
