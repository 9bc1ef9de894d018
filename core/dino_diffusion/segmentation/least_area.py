"""How large a structure was in its examples, for where it is seen but weakly.

A head that learnt a thin structure from one example is right about where it lies in another chest and unsure
of it: little of it has more than an even chance. How large it should be at least is known from the examples,
in units of the chest. Where less is found, lower probabilities are believed, within limits.
"""

from __future__ import annotations

import torch

LOWEST = 0.2
"""The least probability that is ever believed: what is not there must not be found."""


def least_area(targets: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """`(labels,)`: the smallest area of each label in an example that has it, in units of its chest; 0 where
    none has.

    `targets` (N, labels + 1, h, w) are shares of each cell, `unit` (N,) says how many cells make one unit.
    """
    areas = targets[:, 1:].sum((2, 3)) / unit[:, None]
    least = areas.masked_fill(areas == 0, torch.inf).amin(0)
    return least.nan_to_num(posinf=0.0)


def believe(probabilities: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
    """Probabilities `(B, labels + 1, h, w)`, those of a label raised until `least` (B, labels) cells have it.

    All logits of a label move by what its last wanted cell needs for an even chance, and no more than LOWEST
    needs. Labels that have their cells stay as they are.
    """
    labels = probabilities[:, 1:]
    ranked = labels.flatten(2).sort(dim=2, descending=True).values
    place = least.round().long().clamp(1, ranked.shape[2])[..., None] - 1
    last = ranked.gather(2, place).clamp(LOWEST, 0.5).masked_fill(least[..., None] < 1, 0.5)[..., None]
    raised = (labels.logit(eps=1e-6) - last.logit()).sigmoid()
    raised = raised / raised.sum(1, keepdim=True).clamp_min(1)
    return torch.cat([1 - raised.sum(1, keepdim=True), raised], dim=1)
