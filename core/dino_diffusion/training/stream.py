"""The order in which training sees its items: one endless stream, cut between processes and steps.

Resuming needs nothing but the step number, and within an epoch no item appears twice across all
processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


class EpochStream:
    """Shuffled epochs over items of several sources, seeded.

    `most` caps how many items of one source an epoch takes; a larger source goes round over several
    epochs, each of its items equally often. Without it an epoch is every item once.
    """

    def __init__(self, sources: Sequence[str], seed: int, most: int | None = None) -> None:
        self.seed = seed
        names = np.asarray(sources)
        self._groups = [np.flatnonzero(names == name) for name in np.unique(names)]
        self._quotas = [min(len(group), most or len(group)) for group in self._groups]
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def __len__(self) -> int:
        """Items in an epoch."""
        return sum(self._quotas)

    def _epoch(self, number: int) -> np.ndarray:
        taken = [
            group[_endless(len(group), (self.seed, index), number * quota, quota)]
            for index, (group, quota) in enumerate(zip(self._groups, self._quotas, strict=True))
        ]
        return np.random.default_rng((self.seed, number)).permutation(np.concatenate(taken))

    def batch(self, step: int, size: int, rank: int = 0, processes: int = 1) -> np.ndarray:
        """Item indices of this process at `step`; the processes of one step take neighbouring slices."""
        places = np.arange(size) + (step * processes + rank) * size
        return np.array([self.epoch(int(place) // len(self))[int(place) % len(self)] for place in places])


def _endless(count: int, seed: tuple[int, ...], start: int, length: int) -> np.ndarray:
    """`length` entries from `start` of concatenated permutations of `count`."""
    rounds = range(start // count, (start + length - 1) // count + 1)
    order = np.concatenate([np.random.default_rng((*seed, r, 1)).permutation(count) for r in rounds])
    offset = start - rounds.start * count
    return order[offset : offset + length]
