"""The lungs' outline on a picture: what the probabilities say, laid along the picture's edges."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.segmentation.cut_costs import cut_costs, in_edges
from dino_diffusion.segmentation.edge_cut import edge_cut, softened
from dino_diffusion.segmentation.relaxed_cut import relaxed_cuts
from dino_diffusion.view import resize

GRID = 0.75
"""Side of the grid that outlines are found on, in the model view's: measured, finer is no better."""

KEPT = 0.5
"""A lung that would lose more than this share has no edges to follow, a white one: it keeps the outline of
its probabilities."""


def cut_out(votes: torch.Tensor, pictures: torch.Tensor) -> np.ndarray:
    """Where lungs are, `(B, C, C)` bool, from probabilities `(B, 3, h, w)` as in `outlined` and views
    `(B, 1, S, S)`: together where the probabilities lie on a GPU, else one by one."""
    return cut_together(votes, pictures) if votes.is_cuda else cut_each(votes, pictures)


def cut_together(votes: torch.Tensor, pictures: torch.Tensor) -> np.ndarray:
    """`cut_out`, where the probabilities lie."""
    lungs, seen = _on_grid(votes, pictures)
    return relaxed_cuts(cut_costs(lungs, in_edges(seen), brighter_outside=True), lungs).cpu().numpy()


def cut_each(votes: torch.Tensor, pictures: torch.Tensor) -> np.ndarray:
    """`cut_out`, on the CPU."""
    pairs = zip(*(part.cpu().numpy() for part in _on_grid(votes, pictures)), strict=True)
    return np.stack([edge_cut(lung, seen, brighter_outside=True) for lung, seen in pairs])


def _on_grid(votes: torch.Tensor, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability of lung and what the views show, `(B, C, C)`."""
    size = grid_of(pictures)
    lungs = votes[:, 1:].float().sum(1, keepdim=True)
    lungs = functional.interpolate(lungs, (size, size), mode="bilinear")[:, 0]
    return lungs, resize(pictures.to(lungs), size)[:, 0]


def outlined(votes: torch.Tensor, masks: np.ndarray) -> torch.Tensor:
    """Probabilities `(B, 3, h, w)` of background, right and left lung to sharp `(B, 3, C, C)` on the CPU.

    The outline is that of both lungs together (`masks`, from `cut_out`); which of them a place belongs to
    the probabilities say.
    """
    sides = functional.interpolate(votes[:, 1:].float().cpu(), masks.shape[1:], mode="bilinear")
    sides = sides.clamp_min(1e-6)
    lung = sides.sum(1, keepdim=True)
    found = [_with_white_lungs(mask, own.numpy()) for mask, own in zip(masks, sides, strict=True)]
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
