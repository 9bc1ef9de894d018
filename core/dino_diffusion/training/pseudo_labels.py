"""Labels that no one drew: clusters over the corpus, named by the prior."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from dino_diffusion.segmentation.naming import lung_prior
from dino_diffusion.segmentation.shape import part_lungs

CLUSTERED_CELLS = 30_000

STEEPNESS = 24.0
"""Log-odds of being lung that one unit of a soft map is worth, away from the border."""

FRINGE = 2
"""Cells around a lung that may be a little of it: a speck further away is none."""


def cluster_maps(features: torch.Tensor, clusters: tuple[int, ...], seed: int) -> torch.Tensor:
    """Soft lung maps `(B, 1, h, w)` of corpus-level clusters of `features` (B, D, h, w).

    k-means at several counts; a cluster is as much lung as its cells lie inside the prior's ellipses
    (`naming.py`), and the map is the mean over the counts.
    """
    count, _, rows, columns = features.shape
    cells = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    inside = lung_prior(rows).flatten().repeat(count)
    chosen = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))[:CLUSTERED_CELLS]
    soft = torch.zeros(len(cells))
    for index, k in enumerate(clusters):
        centres, found = kmeans2(cells[chosen].numpy(), k, minit="++", seed=seed + index, iter=15)
        members, centre = torch.from_numpy(found).long(), torch.from_numpy(centres).float()
        lung = torch.zeros(k).index_add_(0, members, inside[chosen].float())
        share = lung / torch.bincount(members, minlength=k).clamp_min(1)
        nearest = torch.cat([torch.cdist(part, centre).argmin(1) for part in cells.split(65536)])
        soft += share[nearest] / len(clusters)
    return soft.view(count, 1, rows, columns)


def border_of(soft: torch.Tensor, lung_area: float) -> float:
    """The value of soft maps `(B, 1, h, w)` of a corpus from which on a cell is rather lung than not.

    The `lung_area` share of all cells with the highest values is: what a value means depends on the clusters,
    how large lungs are does not.
    """
    return float(np.quantile(soft.numpy(), 1 - lung_area))  # torch's takes no more than 16 million


def probabilities(soft: torch.Tensor, border: float) -> torch.Tensor:
    """Soft maps `(B, 1, h, w)` to probabilities of lung: even at the border."""
    return (STEEPNESS * (soft - border)).sigmoid()


def shares_of(lung: torch.Tensor) -> torch.Tensor:
    """Probabilities of lung `(B, 1, h, w)` to the shares `(B, 3, h, w)` of background, right and left lung.

    A cell belongs to the lung nearest to it, and beyond FRINGE cells from both to none.
    """
    shares = torch.zeros(len(lung), 3, *lung.shape[-2:])
    for share, values in zip(shares, lung[:, 0], strict=True):
        sides = part_lungs(values.numpy())
        distance, nearest = ndimage.distance_transform_edt(sides == 0, return_indices=True)
        side = torch.from_numpy(sides[tuple(nearest)] * (distance <= FRINGE))
        share[1], share[2] = values * (side == 1), values * (side == 2)
    return with_background(shares[:, 1:])


def with_background(lungs: torch.Tensor) -> torch.Tensor:
    """Shares of both lungs `(B, 2, h, w)`, an altered copy's too, to those of all three `(B, 3, h, w)`: what
    came in from outside of a copy's picture is background."""
    return torch.cat([(1 - lungs.sum(1, keepdim=True)).clamp_min(0), lungs], dim=1)
