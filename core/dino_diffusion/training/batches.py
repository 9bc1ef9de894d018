"""Batches of pictures made ahead of time by worker threads, in the stream's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from dino_diffusion.training.stream import EpochStream

Batch = dict[str, torch.Tensor]
"""Named tensors whose first axis is the picture."""

MakeItem = Callable[[int, int], Batch]
"""(place in the stream, item index) -> the tensors of one picture, without the batch axis."""


Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], workers: int
) -> list[Result]:
    """`function` of every argument, in order, `workers` at a time."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(pool.map(function, arguments))


class Prefetcher:
    """Decodes the next `workers` batches while this one trains. Decoding releases the lock: threads do."""

    def __init__(self, stream: EpochStream, make: MakeItem, size: int, workers: int) -> None:
        self.stream, self.make, self.size, self.workers = stream, make, size, max(1, workers)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[Batch]] = {}

    def batch(self, step: int, rank: int, processes: int) -> Batch:
        """The batch of `size` pictures of `step`; the following ones are started in the background."""
        # Made when first needed, so that a part can be built before processes fork.
        self._pool = self._pool or ThreadPoolExecutor(self.workers, thread_name_prefix="batches")
        wanted = range(step, step + self.workers + 1)
        for old in set(self._ahead) - set(wanted):
            self._ahead.pop(old).cancel()
        for number in wanted:
            if number not in self._ahead:
                self._ahead[number] = self._pool.submit(self._make, number, rank, processes)
        return self._ahead.pop(step).result()

    def close(self) -> None:
        """Drops what was started ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool, self._ahead = None, {}

    def _make(self, step: int, rank: int, processes: int) -> Batch:
        places = range((step * processes + rank) * self.size, (step * processes + rank + 1) * self.size)
        indices = self.stream.batch(step, self.size, rank, processes)
        pictures = [self.make(place, int(index)) for place, index in zip(places, indices, strict=True)]
        return {name: torch.stack([picture[name] for picture in pictures]) for name in pictures[0]}
