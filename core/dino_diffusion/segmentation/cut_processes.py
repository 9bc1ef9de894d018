"""Minimum cuts of several radiographs at once.

SciPy's flow holds Python's lock for all of the 50 ms that a cut takes: threads would wait for each other, and
a GPU for all of them.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np

from dino_diffusion.segmentation.edge_cut import Cut, edge_cut


@contextmanager
def cut_processes(count: int) -> Iterator[Cut]:
    """`edge_cut` for as many threads as call it, each in one of `count` processes; with one, in this one.

    Where a process is killed, this one cuts.
    """
    if count == 1:
        yield edge_cut
        return
    # Ctrl-C reaches the whole group of processes; what to do about it is this one's business.
    deaf = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(count, _context(), initializer=signal.signal, initargs=deaf) as pool:
        # Starting takes seconds: it begins now, not when the first file has been observed.
        pool.submit(edge_cut, np.zeros((1, 1)), np.zeros((1, 1)))

        def cut(probability: np.ndarray, picture: np.ndarray, brighter_outside: bool = False) -> np.ndarray:
            try:
                return pool.submit(edge_cut, probability, picture, brighter_outside=brighter_outside).result()
            except BrokenExecutor:
                return edge_cut(probability, picture, brighter_outside=brighter_outside)

        yield cut


def _context() -> multiprocessing.context.BaseContext:
    """Never a plain fork: this process has threads and perhaps a GPU's context. Where there is a fork
    server, it imports once for all."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([edge_cut.__module__])
    return context
