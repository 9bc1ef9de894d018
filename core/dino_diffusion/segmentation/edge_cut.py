"""From probabilities to an outline that runs along the picture's own edges: a minimum cut.

Boykov and Jolly (ICCV 2001): of all outlines the one that disagrees least with the probabilities and crosses
the fewest places without an edge. Edges can be directed (Boykov and Funka-Lea, IJCV 2006): stepping out of
an aerated lung the picture turns brighter, so what turns darker is no outline of one.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

PULL = 24.0
"""What a step of outline costs where there is no edge, in units of a pixel's log-odds."""

CERTAIN = 8.0
"""Log-odds beyond which a probability says no more."""

CONTRAST = 2.5
"""A step of this many times the picture's median step costs 1/e of one without an edge."""

CAPACITY_UNIT = 1000
"""The flow's capacities are whole numbers: so many make one unit of log-odds."""

UNLIKELY, MARGIN = 0.01, 4
"""Farther than so many pixels from the box around all that is likelier, nothing is cut: it saves a fifth to a
half of the time, and of 64 cuts (32 dev images; both lungs, and one) none came out otherwise."""

STEPS = (((0, 1), 1.0), ((1, 0), 1.0), ((1, 1), 0.5**0.5), ((1, -1), 0.5**0.5))
"""Half of the eight neighbours (row, column) and the weight of a step to them (Boykov, Kolmogorov 2003)."""


def edge_cut(
    probability: np.ndarray, picture: np.ndarray, pull: float = PULL, brighter_outside: bool = False
) -> np.ndarray:
    """Where the structure is, `(H, W)` bool, from its `probability` (H, W) and the `picture` (H, W) itself.

    `brighter_outside`: only where the picture turns brighter on the way out is there an edge; else wherever
    it changes. The contrast that counts as an edge is measured in the picture, so its scale and offset do not
    matter. The result is the global minimum around what is not `UNLIKELY`, the same on every machine; with
    `pull` 0 it is `probability > 0.5`.
    """
    found = np.zeros(picture.shape, dtype=bool)
    box = _box(probability > UNLIKELY)
    if box is not None:
        in_edges = picture[box] / edge_scale(picture)
        found[box] = _minimum(probability[box], in_edges, pull, brighter_outside)
    return found


def _box(places: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns around all `places` (H, W), with a margin; None if there are none."""
    if not places.any():
        return None
    rows, columns = (
        slice(max(0, line[0] - MARGIN), line[-1] + 1 + MARGIN)
        for line in (np.flatnonzero(places.any(axis)) for axis in (1, 0))
    )
    return rows, columns


def _minimum(probability: np.ndarray, picture: np.ndarray, pull: float, brighter_outside: bool) -> np.ndarray:
    """The cut itself; a step of 1 in `picture` is an edge."""
    places = np.arange(picture.size).reshape(picture.shape)
    inside, outside = picture.size, picture.size + 1
    odds = np.log(probability + 1e-6) - np.log(1 - probability + 1e-6)
    odds = np.clip(odds, -CERTAIN, CERTAIN).ravel()
    tails, heads, costs = [], [], []
    for (down, right), weight in STEPS:
        here, there = _neighbours(picture.shape, down, right)
        change = picture[there] - picture[here]
        edge_out = np.maximum(change, 0) if brighter_outside else np.abs(change)
        edge_in = np.maximum(-change, 0) if brighter_outside else edge_out
        tails += [places[here], places[there]]
        heads += [places[there], places[here]]
        costs += [pull * weight * np.exp(-edge_out), pull * weight * np.exp(-edge_in)]
    likely = odds > 0
    tails += [np.full(likely.sum(), inside), places.ravel()[~likely]]
    heads += [places.ravel()[likely], np.full((~likely).sum(), outside)]
    costs += [odds[likely], -odds[~likely]]
    tail, head, cost = (np.concatenate([part.ravel() for part in parts]) for parts in (tails, heads, costs))
    capacity = np.rint(cost * CAPACITY_UNIT).astype(np.int32)
    network = coo_array((capacity, (tail, head)), shape=(outside + 1, outside + 1)).tocsr()
    residual = network - maximum_flow(network, inside, outside).flow
    residual.eliminate_zeros()
    reached = np.zeros(outside + 1, dtype=bool)
    reached[breadth_first_order(residual, inside, return_predecessors=False)] = True
    return reached[: picture.size].reshape(picture.shape)


def softened(mask: np.ndarray, deviation: float = 1.0) -> np.ndarray:
    """The mask `(H, W)` as a probability whose outline is even when it is enlarged, float32."""
    return ndimage.gaussian_filter(mask.astype(np.float32), deviation, mode="nearest")


def edge_scale(picture: np.ndarray) -> float:
    """How large a step between neighbours is an edge in this picture."""
    steps = np.abs(np.diff(picture, axis=0))
    steps = steps[steps > 0]
    return CONTRAST * float(np.median(steps)) if len(steps) else 1.0


def _neighbours(
    shape: tuple[int, ...], down: int, right: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Every place that has a neighbour that far away, and those neighbours."""
    rows, columns = shape
    here = slice(0, rows - down), slice(max(0, -right), columns - max(0, right))
    there = slice(down, rows), slice(max(0, right), columns - max(0, -right))
    return here, there
