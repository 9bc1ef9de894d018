"""Which cells of a picture belong together, as the denoiser sees it: its self-attention and its features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.nn import functional

from dino_diffusion.attention import AttentionMap

SHARPNESS = 10
"""Power of the features' cosine similarity, as in DiffCut (NeurIPS 2024)."""

EIGENVECTORS = 8
"""Channels of the embedding. Both confirmed on dev masks."""


def joint_attention(maps: Sequence[AttentionMap], grid: tuple[int, int]) -> torch.Tensor:
    """Self-attention of one picture on `grid` (h, w), averaged: `(h w, h w)`, rows sum to 1.

    As in DiffSeg (CVPR 2024) every map is enlarged to the grid and counts by its resolution. Of the
    resolutions only the grid's own and the next coarser one enter: those below it blur outlines.
    """
    joint = maps[0].weights.new_zeros(())
    for resolution in sorted({found.resolution for found in maps if 2 * found.resolution[0] >= grid[0]}):
        alike = [found.weights[0] for found in maps if found.resolution == resolution]
        weights = torch.cat(alike).float().mean(0)
        if resolution != grid:
            enlarge = _enlargement(resolution, grid).to(weights)
            weights = enlarge @ weights @ enlarge.T
        joint = joint + resolution[0] * len(alike) * weights / weights.sum(1, keepdim=True)
    return joint / joint.sum(1, keepdim=True)


def affinity(attention: torch.Tensor, layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Symmetric, non-negative `(cells, cells)`: mutual attention times likeness of features.

    Args:
        attention: `(cells, cells)`, rows sum to 1.
        layers: features, `(channels, cells)` each. Layers count alike, whatever their scale.
    """
    mutual = (attention + attention.T) / 2
    # A little of everything keeps the graph connected.
    return mutual / mutual.max() * likeness(layers) + 1e-6


def likeness(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of features as in `affinity`: `(cells, cells)` in [0, 1]."""
    features = torch.cat([functional.normalize(layer, dim=0) for layer in layers])
    # What all cells share says nothing of what belongs together.
    directions = functional.normalize(features - features.mean(1, keepdim=True), dim=0)
    return (directions.T @ directions).clamp_min(0) ** SHARPNESS


def spectral_embedding(affinities: torch.Tensor, channels: int = EIGENVECTORS) -> torch.Tensor:
    """The leading eigenvectors of normalised cut (Shi and Malik 2000), without the constant one.

    `(channels, cells)`, fewer for a tiny graph, each of unit variance: cells that a random walk on the graph
    hardly tells apart lie close together.
    """
    graph = affinities.float().cpu()  # in double precision the same vectors, at twice the traffic
    root = graph.sum(1).sqrt()
    normalised, degree = graph / root[:, None] / root, root.numpy()
    kept = min(channels, len(graph) - 2)
    # Multiplied by torch: its threads are awake, while those of NumPy's library would fight with them.
    product = LinearOperator(
        normalised.shape, lambda vector: (normalised @ torch.from_numpy(vector)).numpy(), dtype=np.float32
    )
    # A fixed start: the same graph always gives the same vectors.
    values, vectors = eigsh(product, k=kept + 1, which="LA", v0=degree, tol=1e-4)
    leading = vectors[:, np.argsort(-values)[1:]] / degree[:, None]
    leading -= leading.mean(0)
    return torch.from_numpy((leading / leading.std(0)).T).float()


def _enlargement(source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """`(target cells, source cells)`: bilinear interpolation as a matrix."""
    cells = source[0] * source[1]
    units = torch.eye(cells).reshape(1, cells, *source)
    return functional.interpolate(units, target, mode="bilinear", align_corners=False)[0].flatten(1).T
