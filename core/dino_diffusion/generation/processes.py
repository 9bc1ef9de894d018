"""A data set's pictures shared out to several processes: workers of this one, and those of a launcher.

Nothing but files is shared: every process knows from the plan what is its own. `torchrun` and `accelerate
launch` tell a process which of how many it is; process 0 prepares, the others wait for what it prepares, and
at the end it waits for theirs. Workers are fresh processes (a GPU does not survive a fork); an interruption
reaches them as a wish to stop, so that none leaves half a file.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dino_diffusion.device import choose_device
from dino_diffusion.errors import Cancelled, ConfigurationError, DinoDiffusionError
from dino_diffusion.generation.synthesis import CONCEPT, Planned, Synthesis
from dino_diffusion.generation.synthesize import make
from dino_diffusion.models import ModelBundle

LOOK_EVERY = 0.5
"""Seconds between looks at workers and for files of other processes."""

PATIENCE = 60.0
"""Seconds that a worker gets to finish its sampling step when it is to stop."""


@dataclass(frozen=True)
class Launched:
    """Process `rank` of `size`, `local_rank` on its machine; alone without a launcher."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def here(cls) -> Launched:
        """As the launcher's environment says."""
        return cls(*(int(os.environ.get(name, default)) for name, default in _VARIABLES.items()))

    @property
    def first(self) -> bool:
        """Whether it prepares, and writes the manifest."""
        return self.rank == 0


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


@dataclass(frozen=True)
class Job:
    """Everything a worker needs: the plan, the bundle by name, where to compute, and its part of the work.

    `begin`: called first in a worker, a function of a module.
    """

    synthesis: Synthesis
    bundle: str | None
    device: str
    share: int
    shares: int
    threads: int
    begin: Callable[[], None]


def _nothing() -> None:
    """A lambda could not go to another process."""


def jobs(
    synthesis: Synthesis,
    bundle: str | None,
    device: str | None,
    workers: int,
    launched: Launched,
    begin: Callable[[], None] = _nothing,
) -> list[Job]:
    """One a worker of this process; cores are shared evenly, and GPUs where none is named."""
    if workers < 1:
        raise ConfigurationError(f"{workers} workers do nothing; use at least 1.")
    threads = max(1, torch.get_num_threads() // workers)
    return [
        Job(
            synthesis,
            bundle,
            device_of(device, launched.local_rank * workers + worker),
            launched.rank * workers + worker,
            launched.size * workers,
            threads,
            begin,
        )
        for worker in range(workers)
    ]


def device_of(name: str | None, worker: int) -> str:
    """The named device, else the GPUs in turn, else the CPU. Raises ConfigurationError."""
    if name is None and os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        name = "cpu"
    if name is None and torch.cuda.is_available():
        name = f"cuda:{worker % torch.cuda.device_count()}"
    return str(choose_device(name))


def work(all_jobs: list[Job]) -> Iterator[Planned]:
    """Pictures of all jobs as they get there, one process a job.

    Raises what a worker raises, and ConfigurationError for one that was ended from outside; the others are
    stopped then, as on an interruption.
    """
    context = multiprocessing.get_context("spawn")
    planned = {picture.file: picture for picture in all_jobs[0].synthesis.planned()}
    news, stop = context.Queue(), context.Event()
    processes = [context.Process(target=_worker, args=(job, news, stop), daemon=True) for job in all_jobs]
    try:
        with _deaf():
            for process in processes:
                process.start()
        working = len(processes)
        while working:
            try:
                told = news.get(timeout=LOOK_EVERY)
            except queue.Empty:
                _check(processes)
                continue
            if isinstance(told, DinoDiffusionError):
                raise told
            working -= told is None
            if told is not None:
                yield planned[told]
    finally:
        stop.set()
        _end(processes)


def wait_for_concepts(synthesis: Synthesis) -> None:
    """Returns once process 0 has learnt them."""
    if synthesis.settings.method == CONCEPT:
        while not all(synthesis.concept_file(label).exists() for label in synthesis.labels):
            time.sleep(LOOK_EVERY)


def wait_for_pictures(synthesis: Synthesis, own: set[str], tell: Callable[[Planned], None]) -> None:
    """Returns once the pictures of other processes are there; `own` files are known to be."""
    missing = [picture for picture in synthesis.planned() if picture.file not in own]
    while missing:
        still = []
        for picture in missing:
            if picture.made(synthesis.folder):
                tell(picture)
            else:
                still.append(picture)
        missing = still
        if missing:
            time.sleep(LOOK_EVERY)


def _worker(job: Job, news: Any, stop: Any) -> None:
    """The life of a worker: pictures, errors and None at the end go into `news`, pictures by their names."""
    job.begin()
    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        return stop.is_set() or (parent is not None and not parent.is_alive())

    try:
        torch.set_num_threads(job.threads)
        bundle = ModelBundle.from_pretrained(job.bundle, choose_device(job.device))
        for picture in make(bundle, job.synthesis, job.share, job.shares, stopped):
            news.put(picture.file)
    except Cancelled:
        pass
    except DinoDiffusionError as error:
        news.put(type(error)(str(error)))
        return
    news.put(None)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started here never hear of Ctrl-C, which reaches the whole group: the parent stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)


def _check(processes: list[Any]) -> None:
    for process in processes:
        if process.exitcode:
            raise ConfigurationError(
                f"A worker ended by itself (exit code {process.exitcode}), perhaps for want of memory; start "
                "the same command with fewer workers, what is done is kept."
            )


def _end(processes: list[Any]) -> None:
    started = [process for process in processes if process.pid is not None]
    until = time.monotonic() + PATIENCE
    for process in started:
        process.join(max(0.0, until - time.monotonic()))
    for process in started:
        if process.is_alive():
            process.terminate()
            process.join()
