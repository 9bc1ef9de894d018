"""Pieces merged pair by pair into one: a hierarchy in which every coarser partition unites finer ones."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class MergeTree:
    """A binary tree over `leaves` pieces 0 ... leaves - 1; node `leaves + k` was made by merge k.

    parents: `(2 * leaves - 1,)` the node that each node was merged into; the root is its own parent. Parents
    have higher numbers than their children, and the first merges are the cheapest.
    """

    parents: np.ndarray
    leaves: int

    def cut(self, count: int) -> np.ndarray:
        """`(leaves,)`: the node each leaf belongs to when `count` regions are left, within what there is."""
        return self._tops(self.limit(count))

    def limit(self, count: int) -> int:
        """Nodes below this number exist when `count` regions are left."""
        return 2 * self.leaves - min(max(count, 1), self.leaves)

    def members(self, node: int) -> np.ndarray:
        """`(leaves,)` bool: the leaves that `node` unites."""
        return self._tops(node + 1) == node

    def lineage(self, leaf: int) -> list[int]:
        """The leaf and all nodes that hold it, up to the root."""
        line = [leaf]
        while (above := int(self.parents[line[-1]])) != line[-1]:
            line.append(above)
        return line

    def _tops(self, limit: int) -> np.ndarray:
        """`(leaves,)`: the highest node below `limit` that holds each leaf."""
        up = np.where(self.parents < limit, self.parents, np.arange(len(self.parents)))
        while not np.array_equal(further := up[up], up):
            up = further
        return up[: self.leaves]


def agglomerate(values: np.ndarray, sizes: np.ndarray, pairs: np.ndarray) -> MergeTree:
    """Merge neighbours until one region is left, always the pair that adds least to the variance within.

    That is Ward's criterion (1963), `|mean a - mean b|^2 n_a n_b / (n_a + n_b)`, restricted to neighbours so
    that every region is connected. Ties go to the lower numbers.

    Args:
        values: `(leaves, channels)` of each piece.
        sizes: `(leaves,)` positive.
        pairs: `(edges, 2)` neighbouring pieces; together they must connect all of them.
    """
    leaves = len(values)
    nodes = 2 * leaves - 1
    # Plain numbers: for a few neighbours and channels, arrays take longer to make than to use.
    means: list[list[float]] = values.tolist() + [[]] * (leaves - 1)
    weights: list[float] = (np.asarray(sizes) / np.mean(sizes)).tolist() + [0.0] * (leaves - 1)
    parents = list(range(nodes))
    neighbours: list[set[int]] = [set() for _ in range(nodes)]
    for first, second in pairs.tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)

    def cost(one: int, other: int) -> float:
        both = weights[one] * weights[other] / (weights[one] + weights[other])
        return math.dist(means[one], means[other]) ** 2 * both

    heap = [(cost(first, second), first, second) for first, second in pairs.tolist()]
    heapq.heapify(heap)
    for merged in range(leaves, nodes):
        while True:
            _, first, second = heapq.heappop(heap)
            if parents[first] == first and parents[second] == second:  # neither is part of a region by now
                break
        parents[first] = parents[second] = merged
        weights[merged] = weights[first] + weights[second]
        means[merged] = [
            (weights[first] * one + weights[second] * other) / weights[merged]
            for one, other in zip(means[first], means[second], strict=True)
        ]
        neighbours[merged] = (neighbours[first] | neighbours[second]) - {first, second}
        for other in neighbours[merged]:
            neighbours[other] -= {first, second}
            neighbours[other].add(merged)
            heapq.heappush(heap, (cost(other, merged), other, merged))
    return MergeTree(np.array(parents), leaves)
