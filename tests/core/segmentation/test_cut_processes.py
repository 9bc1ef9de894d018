"""Cuts in other processes: the same as here, also for threads that call at once and where a process dies."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dino_diffusion.segmentation.cut_processes import cut_processes
from dino_diffusion.segmentation.edge_cut import Cut, edge_cut

RNG = np.random.default_rng(0)
PICTURES = [(RNG.random((20, 20)), RNG.random((20, 20))) for _ in range(4)]


def cuts_like_here(cut: Cut) -> bool:
    def agrees(pair: tuple[np.ndarray, np.ndarray]) -> bool:
        return np.array_equal(cut(*pair, brighter_outside=True), edge_cut(*pair, brighter_outside=True))

    with ThreadPoolExecutor(len(PICTURES)) as threads:
        return all(threads.map(agrees, PICTURES))


def test_one_process_is_this_one() -> None:
    with cut_processes(1) as cut:
        assert cut is edge_cut


def test_several_cut_as_this_one_does_also_when_they_are_killed() -> None:
    with cut_processes(2) as cut:
        assert cuts_like_here(cut)
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()
        assert cuts_like_here(cut)
