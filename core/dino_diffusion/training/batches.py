"""Batches of pictures made ahead of time by worker threads, in the stream's order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from dino_diffusion.training.stream import EpochStream

MakeItem = Callable[[int, int], torch.Tensor]
"""(place in the stream, item index) -> one picture."""


class Prefetcher:
    """Decodes the next batch while this one trains. Threads suffice: decoding releases the lock."""

    def __init__(self, stream: EpochStream, make: MakeItem, size: int, workers: int) -> None:
        self.stream, self.make, self.size = stream, make, size
        self.pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="batches")
        self._ahead: dict[tuple[int, int, int], Future[torch.Tensor]] = {}

    def batch(self, step: int, rank: int, processes: int) -> torch.Tensor:
        """The batch `(size, ...)` of `step`; the following one is started in the background."""
        current = self._ahead.pop((step, rank, processes), None) or self._start(step, rank, processes)
        self._ahead = {(step + 1, rank, processes): self._start(step + 1, rank, processes)}
        return current.result()

    def _start(self, step: int, rank: int, processes: int) -> Future[torch.Tensor]:
        return self.pool.submit(self._make, step, rank, processes)

    def _make(self, step: int, rank: int, processes: int) -> torch.Tensor:
        places = range((step * processes + rank) * self.size, (step * processes + rank + 1) * self.size)
        indices = self.stream.batch(step, self.size, rank, processes)
        return torch.stack([self.make(place, int(index)) for place, index in zip(places, indices, strict=True)])
