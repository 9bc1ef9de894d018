"""What an outline costs: against probabilities, and where it crosses a picture without an edge.

Boykov and Jolly (ICCV 2001): of all outlines the one that disagrees least with the probabilities and crosses
the fewest places without an edge. Edges can be directed (Boykov and Funka-Lea, IJCV 2006): stepping out of
an aerated lung the picture turns brighter, so what turns darker is no outline of one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

PULL = 24.0
"""What a step of outline costs where there is no edge, in units of a pixel's log-odds."""

CERTAIN = 8.0
"""Log-odds beyond which a probability says no more."""

CONTRAST = 2.5
"""A step of this many times the picture's median step costs 1/e of one without an edge."""

STEPS = (((0, 1), 1.0), ((1, 0), 1.0), ((1, 1), 0.5**0.5), ((1, -1), 0.5**0.5))
"""Half of the eight neighbours (row, column) and the weight of a step to them (Boykov, Kolmogorov 2003)."""


class CutCosts(NamedTuple):
    """`odds` (B, H, W): what a place costs more outside than inside. `out` and `back` (B, 4, H, W): what an
    outline costs between a place and its neighbour in each of `STEPS`, where the place is inside and where
    the neighbour is; 0 where there is no neighbour."""

    odds: torch.Tensor
    out: torch.Tensor
    back: torch.Tensor


def cut_costs(
    probabilities: torch.Tensor, pictures: torch.Tensor, pull: float = PULL, brighter_outside: bool = False
) -> CutCosts:
    """Of outlines that follow `probabilities` (B, H, W) and `pictures` (B, H, W), in which a step of 1 is an
    edge.

    `brighter_outside`: only where the picture turns brighter on the way out is there an edge; else wherever
    it changes.
    """
    odds = torch.log(probabilities + 1e-6) - torch.log(1 - probabilities + 1e-6)
    out = torch.zeros(len(pictures), len(STEPS), *pictures.shape[1:], dtype=odds.dtype, device=odds.device)
    back = torch.zeros_like(out)
    for number, ((down, right), weight) in enumerate(STEPS):
        here, there = neighbours(pictures.shape[1:], down, right)
        change = pictures[:, *there] - pictures[:, *here]
        outward, inward = (change, -change) if brighter_outside else (change.abs(), change.abs())
        out[:, number, *here] = pull * weight * torch.exp(-outward.clamp_min(0))
        back[:, number, *here] = pull * weight * torch.exp(-inward.clamp_min(0))
    return CutCosts(odds.clamp(-CERTAIN, CERTAIN), out, back)


def in_edges(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures `(B, H, W)` in units of what is an edge in each of them; flat ones as they are."""
    steps = pictures.diff(dim=1).abs().flatten(1)
    median = torch.where(steps > 0, steps, torch.nan).nanmedian(dim=1).values.nan_to_num(1 / CONTRAST)
    return pictures / (CONTRAST * median[:, None, None])


def neighbours(
    shape: tuple[int, ...], down: int, right: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Every place that has a neighbour that far away, and those neighbours."""
    rows, columns = shape
    here = slice(0, rows - down), slice(max(0, -right), columns - max(0, right))
    there = slice(down, rows), slice(max(0, right), columns - max(0, -right))
    return here, there
