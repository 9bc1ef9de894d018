"""Labels that no one drew: clusters over the corpus, named by the prior, their outlines laid along edges."""

from __future__ import annotations

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch.nn import functional

from dino_diffusion.segmentation.naming import lung_prior
from dino_diffusion.segmentation.outline import outline
from dino_diffusion.segmentation.shape import part_lungs

CLUSTERED_CELLS = 30_000

STEEPNESS = 8.0
"""Log-odds of being lung that one unit of a soft map is worth, away from the border."""


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


def probabilities(soft: torch.Tensor, lung_area: float) -> torch.Tensor:
    """Soft maps `(B, 1, h, w)` to probabilities of lung.

    Over the corpus, the `lung_area` share of all cells with the highest values has more than an even chance:
    what a value means depends on the clusters, how large lungs are does not.
    """
    border = float(np.quantile(soft.numpy(), 1 - lung_area))  # torch's takes no more than 16 million
    return (STEEPNESS * (soft - border)).sigmoid()


def labels_of(lung: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Probabilities `(B, 1, h, w)` and model views `(B, 1, S, S)` to labels `(B, 3, C, C)`, 0 or 1:
    background, right and left lung, outlined along the views' own edges (`outline.py`)."""
    drawn = (part_lungs(outline(*pair).astype(np.float32)) for pair in zip(lung, pictures, strict=True))
    labels = torch.from_numpy(np.stack(list(drawn))).long()
    return functional.one_hot(labels, 3).permute(0, 3, 1, 2).to(torch.uint8)


def shares_of(labels: torch.Tensor, grid: int) -> torch.Tensor:
    """Labels `(B, 3, C, C)`, an altered copy's too, to the share of each in every cell `(B, 3, grid, grid)`.

    What came in from outside of a copy's picture is background.
    """
    lungs = functional.adaptive_avg_pool2d(labels[:, 1:].float(), grid)
    return torch.cat([(1 - lungs.sum(1, keepdim=True)).clamp_min(0), lungs], dim=1)
