"""Where files are read and written while the models work on others: in threads, or in processes.

Half of that work holds Python's lock, so that threads beside a GPU would wait for each other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import torch

from dino_diffusion.cli.segment_desk import Desk, File

Result = TypeVar("Result")
Work = Callable[..., Result]
"""A method of Desk."""


class Lanes(Protocol):
    """Each file is worked on where it was read."""

    def submit(self, work: Work[Result], file: File, *args: Any) -> Future[Result]:
        """`work(desk, file, *args)`."""
        ...


class Threads:
    """Threads of this process, at one desk."""

    def __init__(self, desk: Desk, count: int = 1) -> None:
        # Many threads, each with threads of its own for torch, would only wait for each other.
        own = 1 if count > 1 else torch.get_num_threads()
        self.desk = desk
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(own,))

    def submit(self, work: Work[Result], file: File, *args: Any) -> Future[Result]:
        """As in `Lanes`."""
        return self._pool.submit(work, self.desk, file, *args)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


class Processes:
    """`count` processes, each with a desk of its own; files take turns.

    Where one is killed, the files it had fail with BrokenExecutor, and another takes its place.
    """

    def __init__(self, desk: Desk, count: int) -> None:
        self._desk, self._context = desk, _context()
        self._lanes: list[Executor] = [self._started() for _ in range(count)]
        self._lane_of: dict[File, int] = {}

    def submit(self, work: Work[Result], file: File, *args: Any) -> Future[Result]:
        """As in `Lanes`."""
        lane = self._lane_of.setdefault(file, len(self._lane_of) % len(self._lanes))
        try:
            return self._lanes[lane].submit(_at_desk, work, file, *args)
        except BrokenExecutor:
            self._lanes[lane] = self._started()
            return self._lanes[lane].submit(_at_desk, work, file, *args)

    def _started(self) -> Executor:
        lane = ProcessPoolExecutor(1, self._context, initializer=_sit_down, initargs=(self._desk,))
        lane.submit(int)  # starting takes seconds: it begins now, not with the first file
        return lane

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lane in self._lanes:
            lane.shutdown(wait=False, cancel_futures=error is not None)
        for lane in self._lanes:
            lane.shutdown()


def _context() -> multiprocessing.context.BaseContext:
    """Never a plain fork: this process has threads and perhaps a GPU's context. Where there is a fork
    server, it imports once for all."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "dino_diffusion.segmentation.lungs"])
    return context


_desks: list[Desk] = []


def _sit_down(desk: Desk) -> None:
    """What a process does first."""
    # Ctrl-C reaches the whole group of processes; what to do about it is the first one's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # there are as many of these processes as the machine can work for
    _desks.append(desk)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _at_desk(work: Work[Result], file: File, *args: Any) -> Result:
    return work(_desks[0], file, *args)
