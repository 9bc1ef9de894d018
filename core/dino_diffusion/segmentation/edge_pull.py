"""How strongly a structure's outline is drawn to edges of the picture: read off its examples.

An example's mask is blurred as a head's answer is and put a little astray; the pull of a cut (`edge_cut.py`)
that finds the mask's own outline again from that serves other pictures, too. Lungs ask for a strong one, a
heart, whose lower border shows no edge, for a weaker one, thin bones or the borders of zones for none.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from dino_diffusion.segmentation.edge_cut import edge_cut, softened
from dino_diffusion.segmentation.outline import grid_of
from dino_diffusion.view import resize

PULLS = (0.0, 4.0, 12.0, 24.0)
"""What a head may choose from; the first is no cut at all."""

BLUR = 4.0
"""Standard deviation, in cells of the outline's grid."""

ASTRAY = ((0, 0), (4, 4), (-4, -4), (4, -4), (-4, 4))
"""Displacements of the blurred mask in the same unit: rows, columns."""


def recovered(targets: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Dice `(labels, len(PULLS))` of each label's masks and what a cut finds of them, mean over the examples.

    `targets` (N, labels + 1, S, S) are shares of each pixel of the views `pictures` (N, 1, S, S).
    """
    size, labels = grid_of(pictures), targets.shape[1] - 1
    found, seen = torch.zeros(labels, len(PULLS)), torch.zeros(labels, 1)
    grey, masks = resize(pictures, size)[:, 0].numpy(), resize(targets, size)[:, 1:].numpy()
    for picture, shares in zip(grey, masks, strict=True):
        for label, share in enumerate(shares):
            if not (share > 0.5).any():
                continue
            blurred = ndimage.gaussian_filter(share, BLUR)
            for by in ASTRAY:
                guess = np.roll(blurred, by, (0, 1))
                seen[label] += 1
                for number, pull in enumerate(PULLS):
                    found[label, number] += _dice(edge_cut(guess, picture, pull), share > 0.5)
    return found / seen.clamp_min(1)


def pulled(votes: torch.Tensor, picture: torch.Tensor, pulls: list[float], size: int) -> torch.Tensor:
    """Probabilities of labels `(labels, h, w)` to `(labels, size, size)`, cut on a view `(1, S, S)`.

    Labels whose pull is 0 are only enlarged.
    """
    grid = grid_of(picture)
    seen = resize(picture[None].float().cpu(), grid)[0, 0].numpy()
    fine = functional.interpolate(votes[None].float().cpu(), (grid, grid), mode="bilinear")[0]
    drawn = [
        torch.from_numpy(softened(edge_cut(label.numpy(), seen, pull))) if pull else label
        for label, pull in zip(fine, pulls, strict=True)
    ]
    return functional.interpolate(torch.stack(drawn)[None], (size, size), mode="bilinear")[0]


def _dice(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
