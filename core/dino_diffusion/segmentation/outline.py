"""The lungs' outline on a picture: what the probabilities say, laid along the picture's edges."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.segmentation.edge_cut import edge_cut, softened
from dino_diffusion.view import resize

GRID = 0.75
"""Side of the grid that outlines are found on, in the model view's: measured, finer is no better."""

KEPT = 0.5
"""A lung that would lose more than this share has no edges to follow, a white one: it keeps the outline of
its probabilities."""


def outline(lung: torch.Tensor, picture: torch.Tensor) -> np.ndarray:
    """Where lungs are, `(C, C)` bool, from their probability `(1, h, w)` on a view `(1, S, S)`."""
    size = grid_of(picture)
    seen = resize(picture[None].float().cpu(), size)[0, 0]
    fine = functional.interpolate(lung[None].float().cpu(), (size, size), mode="bilinear")[0, 0]
    return edge_cut(fine.numpy(), seen.numpy(), brighter_outside=True)


def outlined(votes: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Probabilities `(B, 3, h, w)` of background, right and left lung to sharp `(B, 3, C, C)` on the CPU.

    The outline is that of both lungs together; which of them a place belongs to the probabilities say.
    """
    votes, size = votes.float().cpu(), grid_of(pictures)
    sides = functional.interpolate(votes[:, 1:], (size, size), mode="bilinear").clamp_min(1e-6)
    lung = sides.sum(1, keepdim=True)
    found = [
        _with_white_lungs(outline(probability, picture), own.numpy())
        for probability, picture, own in zip(votes[:, 1:].sum(1, keepdim=True), pictures, sides, strict=True)
    ]
    sharp = torch.from_numpy(np.stack([softened(mask) for mask in found]))[:, None]
    return torch.cat([1 - sharp, sharp * sides / lung], dim=1)


def grid_of(pictures: torch.Tensor) -> int:
    """Side of the grid of outlines on views `(..., S, S)`."""
    return round(GRID * pictures.shape[-1])


def _with_white_lungs(mask: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """`mask` (C, C) with each lung of `sides` (2, C, C) that it lost, as far as that is likely."""
    likely = sides.sum(0) > 0.5
    for lung in (sides[0] >= sides[1], sides[0] < sides[1]):
        whole = likely & lung
        if (mask & whole).sum() < (1 - KEPT) * whole.sum():
            mask = mask | whole
    return mask
