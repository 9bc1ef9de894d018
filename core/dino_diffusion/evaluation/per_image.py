"""Lungs from one picture alone: what the literature reads from a diffusion model's attention and features.

Nothing is learnt. The cells of a picture are put into regions, or walked over, by what the denoiser makes of
it; the prior's ellipses (`segmentation/naming.py`) say how much of each region is lung, or where walks end.
What a value means is left to the corpus (`training/pseudo_labels.py`), as for clusters over many pictures.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from dino_diffusion.segmentation.naming import (
    HEART_PRIOR,
    LEFT_LUNG_PRIOR,
    RIGHT_LUNG_PRIOR,
    Ellipse,
    lung_prior,
)

ANCHORS, ROUNDS = 16, 3
"""Side of the grid of maps that merging begins with, and how often it goes over them."""

BORDERS = 31
"""Places along an eigenvector where a graph may be cut."""

FEWEST_CELLS = 8
"""A region below that is not cut off."""

CORE = 0.6
"""Half axes of an ellipse whose cells are lung for certain; beyond its inverse they are background."""


def merged_attention(attention: torch.Tensor, threshold: float) -> np.ndarray:
    """Region `(cells,)` of each cell: rows of `attention` (cells, cells), merged where they are alike.

    DiffSeg (Tian et al., CVPR 2024): maps at a grid of anchors take in all within `threshold` of symmetric
    Kullback-Leibler divergence, then each other; a cell belongs to the map that is highest there.
    """
    side = round(len(attention) ** 0.5)
    line = (2 * torch.arange(ANCHORS) + 1) * side // (2 * ANCHORS)
    anchors = (line[:, None] * side + line).flatten()
    near = _divergence(attention[anchors], attention) < threshold
    near[torch.arange(len(anchors)), anchors] = True  # rounding must not part a map from itself
    maps = torch.stack([attention[group].mean(0) for group in near])
    for _ in range(ROUNDS - 1):
        alike = (_divergence(maps, maps) < threshold).fill_diagonal_(True)
        left, merged = torch.ones(len(maps), dtype=torch.bool), []
        for number in range(len(maps)):
            if left[number]:
                group = alike[number] & left
                merged.append(maps[group].mean(0))
                left &= ~group
        maps = torch.stack(merged)
    return maps.argmax(0).numpy()


def _divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Symmetric Kullback-Leibler divergence `(n, m)` of distributions `(n, cells)` and `(m, cells)`."""
    p, q = first.clamp_min(1e-8), second.clamp_min(1e-8)
    log_p, log_q = p.log(), q.log()
    own = (p * log_p).sum(1)[:, None] + (q * log_q).sum(1)
    return (own - p @ log_q.T - log_p @ q.T) / 2


def cut_regions(affinities: torch.Tensor, limit: float) -> np.ndarray:
    """Region `(cells,)` of each cell: the graph `affinities` (cells, cells) cut in two again and again.

    DiffCut (Couairon et al., NeurIPS 2024): a part is cut where its normalised cut (Shi and Malik 2000) costs
    least, as long as that is at most `limit`. scikit-image's `cut_normalized` cuts alike, but is made for few
    edges: a graph with all those between 1,024 cells takes it 13 s, and this below 1 s.
    """
    graph = affinities.double().numpy()
    regions, uncut, count = np.zeros(len(graph), dtype=int), [np.arange(len(graph))], 0
    while uncut:
        cells = uncut.pop()
        cost, inside = _cheapest_cut(graph[np.ix_(cells, cells)])
        if cost <= limit:
            uncut += [cells[inside], cells[~inside]]
        else:
            regions[cells] = count
            count += 1
    return regions


def _cheapest_cut(graph: np.ndarray) -> tuple[float, np.ndarray]:
    """Cost of the cheapest normalised cut along the second eigenvector, and its side `(cells,)`."""
    nowhere = (np.inf, np.zeros(len(graph), dtype=bool))
    if len(graph) < 2 * FEWEST_CELLS:
        return nowhere
    degree = graph.sum(1)
    root = np.sqrt(degree)
    _, vectors = np.linalg.eigh(graph / root[:, None] / root)
    second = vectors[:, -2] / root
    cuts = [nowhere]
    for border in np.linspace(second.min(), second.max(), BORDERS + 2)[1:-1]:
        inside = second > border
        if FEWEST_CELLS <= inside.sum() <= len(graph) - FEWEST_CELLS:
            across = graph[inside][:, ~inside].sum()
            cuts.append((across / degree[inside].sum() + across / degree[~inside].sum(), inside))
    return min(cuts, key=lambda cut: cut[0])


def prior_shares(regions: np.ndarray) -> torch.Tensor:
    """`(1, 1, h, h)`: how much of a cell's region lies inside the prior's ellipses.

    A region `(h h,)` counts once in the left and once in the right half of the picture.
    """
    side = round(len(regions) ** 0.5)
    halves = 2 * regions + (np.arange(len(regions)) % side >= side // 2)
    inside = np.bincount(halves, lung_prior(side).flatten().numpy()) / np.bincount(halves).clip(1)
    return torch.from_numpy(inside[halves]).float().view(1, 1, side, side)


def walked(affinities: torch.Tensor) -> torch.Tensor:
    """`(1, 1, h, h)`: how likely a random walk on the graph ends in a lung before it ends outside.

    Grady's random walker (PAMI 2006): walks end in the core of an ellipse or well outside of both.
    """
    graph = affinities.double()
    side = round(len(graph) ** 0.5)
    lung, outside = (part.flatten() for part in _seeds(side))
    walking = ~(lung | outside)
    away = torch.diag(graph.sum(1)) - graph
    reached = lung.double()
    reached[walking] = torch.linalg.solve(away[walking][:, walking], graph[walking][:, lung].sum(1))
    return reached.float().view(1, 1, side, side)


def _seeds(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`(side, side)` bool: certainly lung, certainly none."""
    core, reach = (
        _scaled(RIGHT_LUNG_PRIOR, factor).inside(side) | _scaled(LEFT_LUNG_PRIOR, factor).inside(side)
        for factor in (CORE, 1 / CORE)
    )
    lung = core & ~HEART_PRIOR.inside(side)
    return lung, ~reach | (_scaled(HEART_PRIOR, CORE).inside(side) & ~lung)


def _scaled(ellipse: Ellipse, factor: float) -> Ellipse:
    return dataclasses.replace(
        ellipse, half_width=ellipse.half_width * factor, half_height=ellipse.half_height * factor
    )
