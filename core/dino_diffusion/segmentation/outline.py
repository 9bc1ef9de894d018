"""The lungs' outline on a picture: what the probabilities say, laid along the picture's edges."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.segmentation.edge_cut import edge_cut, softened
from dino_diffusion.view import resize

GRID = 0.75
"""Side of the grid that outlines are found on, in the model view's: measured, not finer is better."""


def outline(lung: torch.Tensor, picture: torch.Tensor) -> np.ndarray:
    """Where lungs are, `(C, C)` bool, from their probability `(1, h, w)` on a view `(1, S, S)`."""
    size = round(GRID * picture.shape[-1])
    seen = resize(picture[None].float().cpu(), size)[0, 0]
    fine = functional.interpolate(lung[None].float().cpu(), (size, size), mode="bilinear")[0, 0]
    return edge_cut(fine.numpy(), seen.numpy())


def outlined(votes: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Probabilities `(B, 3, h, w)` of background, right and left lung to sharp `(B, 3, C, C)` on the CPU.

    The outline is that of both lungs together; which of them a place belongs to the probabilities say.
    """
    votes = votes.float().cpu()
    pairs = zip(votes[:, 1:].sum(1, keepdim=True), pictures, strict=True)
    lung = torch.from_numpy(np.stack([softened(outline(*pair)) for pair in pairs]))[:, None]
    sides = functional.interpolate(votes[:, 1:], lung.shape[-2:], mode="bilinear").clamp_min(1e-6)
    return torch.cat([1 - lung, lung * sides / sides.sum(1, keepdim=True)], dim=1)
