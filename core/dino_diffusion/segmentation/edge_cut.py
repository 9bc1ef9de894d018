"""From probabilities to an outline along the picture's own edges: a minimum cut of `cut_costs.py`."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from dino_diffusion.segmentation.cut_costs import PULL, STEPS, CutCosts, cut_costs, in_edges, neighbours

CAPACITY_UNIT = 1000
"""The flow's capacities are whole numbers: so many make one unit of log-odds."""

UNLIKELY, MARGIN = 0.01, 4
"""Farther than so many pixels from the box around all that is likelier, nothing is cut: it saves a fifth to a
half of the time, and of 64 cuts (32 dev images; both lungs, and one) none came out otherwise."""


def edge_cut(
    probability: np.ndarray, picture: np.ndarray, pull: float = PULL, brighter_outside: bool = False
) -> np.ndarray:
    """Where the structure is, `(H, W)` bool, from its `probability` (H, W) and the `picture` (H, W) itself.

    The contrast that counts as an edge is measured in the picture, so its scale and offset do not matter;
    `brighter_outside` as in `cut_costs`. The result is the global minimum around what is not `UNLIKELY`, the
    same on every machine; with `pull` 0 it is `probability > 0.5`.
    """
    found = np.zeros(picture.shape, dtype=bool)
    box = _box(probability > UNLIKELY)
    if box is not None:
        near, seen = (torch.from_numpy(array)[None] for array in (probability, picture))
        found[box] = _minimum(cut_costs(near[:, *box], in_edges(seen)[:, *box], pull, brighter_outside))
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


def _minimum(costs: CutCosts) -> np.ndarray:
    """The cut itself, `(H, W)` bool."""
    odds, out, back = (part[0].numpy() for part in costs)
    places = np.arange(odds.size).reshape(odds.shape)
    inside, outside = odds.size, odds.size + 1
    likely = odds > 0
    tails = [np.full(likely.sum(), inside), places[~likely]]
    heads = [places[likely], np.full((~likely).sum(), outside)]
    values = [odds[likely], -odds[~likely]]
    for number, ((down, right), _) in enumerate(STEPS):
        here, there = neighbours(odds.shape, down, right)
        tails += [places[here], places[there]]
        heads += [places[there], places[here]]
        values += [out[number][here], back[number][here]]
    tail, head, value = (np.concatenate([part.ravel() for part in parts]) for parts in (tails, heads, values))
    capacity = np.rint(value * CAPACITY_UNIT).astype(np.int32)
    network = coo_array((capacity, (tail, head)), shape=(outside + 1, outside + 1)).tocsr()
    residual = network - maximum_flow(network, inside, outside).flow
    residual.eliminate_zeros()
    reached = np.zeros(outside + 1, dtype=bool)
    reached[breadth_first_order(residual, inside, return_predecessors=False)] = True
    return reached[: odds.size].reshape(odds.shape)


def softened(mask: np.ndarray, deviation: float = 1.0) -> np.ndarray:
    """The mask `(H, W)` as a probability whose outline is even when it is enlarged, float32."""
    return ndimage.gaussian_filter(mask.astype(np.float32), deviation, mode="nearest")
