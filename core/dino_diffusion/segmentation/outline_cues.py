"""What draws a structure's outline in the picture, read off its examples: its shade, and edges.

An example's mask is blurred as a head's answer is and put a little astray; what finds the mask's own outline
again from that serves other pictures, too. A bone is brighter than what lies right beside it, so places that
are get better odds. Lungs and hearts ask for a cut along their edges (`edge_cut.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from dino_diffusion.segmentation.edge_cut import UNLIKELY, edge_cut, softened
from dino_diffusion.segmentation.least_area import believe
from dino_diffusion.segmentation.local_shape import even_shades, gaussian
from dino_diffusion.segmentation.outline import grid_of
from dino_diffusion.view import resize


class Cue(NamedTuple):
    """`shade`: what a local contrast is worth in log-odds; `pull`: how strongly edges pull in a cut, 0 for
    none."""

    shade: float = 0.0
    pull: float = 0.0


CUES = (Cue(), Cue(pull=4.0), Cue(pull=12.0), Cue(pull=24.0), Cue(shade=-5.0), Cue(shade=5.0))
"""What a label may choose from: nothing, edges, being darker or brighter than what lies around. Offered
together as well they are chosen too often: of other films' clavicles less is found then."""

LEAST_GAIN = 0.05
"""A shade must find so much more of the examples' masks, as Dice: noise alone gains 0.02 now and then."""

INNER, OUTER, SURROUNDINGS = 0.75, 3.0, 8.0
"""Shade is the difference of two Gaussians, in units of the contrast in a third, in cells of the outline's
grid."""

CERTAIN = 6.0
"""Log-odds beyond which a head's answer says no more against the shade."""

BLUR = 4.0
"""Standard deviation, in cells of the outline's grid."""

ASTRAY = ((0, 0), (4, 4), (-4, -4), (4, -4), (-4, 4))
"""Displacements of the blurred mask in the same unit: rows, columns."""


def shade_of(pictures: torch.Tensor) -> torch.Tensor:
    """How much brighter each place `(..., S, S)` is than what lies around it, in local contrasts."""
    even = even_shades(pictures, SURROUNDINGS)
    return gaussian(even, INNER) - gaussian(even, OUTER)


def shaded(probability: torch.Tensor, shade: torch.Tensor, worth: float) -> torch.Tensor:
    """The probability after the `shade` changed its odds, wherever it is not UNLIKELY."""
    odds = probability.logit(eps=1e-6).clamp(-CERTAIN, CERTAIN)
    return torch.where(probability > UNLIKELY, (odds + worth * shade).sigmoid(), probability)


def recovered(targets: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Dice `(labels, len(CUES))` of each label's masks and what each cue finds of them, mean over the
    examples; of shades less LEAST_GAIN.

    `targets` (N, labels + 1, S, S) are shares of each pixel of the views `pictures` (N, 1, S, S).
    """
    size, labels = grid_of(pictures), targets.shape[1] - 1
    seen, masks = resize(pictures, size)[:, 0], resize(targets, size)[:, 1:]
    found, trials = torch.zeros(labels, len(CUES)), torch.zeros(labels, 1)
    for picture, shade, shares in zip(seen, shade_of(seen), masks, strict=True):
        for label, share in enumerate(shares):
            if not (share > 0.5).any():
                continue
            answer = _answered(share)
            for by in ASTRAY:
                trials[label] += 1
                for number, cue in enumerate(CUES):
                    outline = _outlined(answer.roll(by, (0, 1)), picture, shade, cue)
                    found[label, number] += _dice(outline > 0.5, share > 0.5)
    handicap = torch.tensor([LEAST_GAIN if cue.shade else 0.0 for cue in CUES])
    return found / trials.clamp_min(1) - handicap


def _answered(mask: torch.Tensor) -> torch.Tensor:
    """A mask `(S, S)` as a head would answer: blurred, but of the mask's own area."""
    blurred = gaussian(mask, BLUR)
    return believe(torch.stack([1 - blurred, blurred])[None], mask.sum()[None, None])[0, 1]


def drawn(votes: torch.Tensor, pixels: torch.Tensor, cues: Sequence[Cue]) -> torch.Tensor:
    """Probabilities of labels `(1, labels, h, w)` on the grid of their view `pixels` (1, 1, S, S), as the
    picture draws them."""
    size = grid_of(pixels)
    picture = resize(pixels.float().cpu(), size)[0, 0]
    shade = shade_of(picture)
    labels = functional.interpolate(votes.float().cpu(), (size, size), mode="bilinear")[0]
    found = [_outlined(label, picture, shade, cue) for label, cue in zip(labels, cues, strict=True)]
    return functional.interpolate(torch.stack(found)[None], pixels.shape[-2:], mode="bilinear")


def _outlined(
    probability: torch.Tensor, picture: torch.Tensor, shade: torch.Tensor, cue: Cue
) -> torch.Tensor:
    """The probability `(S, S)` with its outline where the cue puts it."""
    if cue.shade:
        probability = shaded(probability, shade, cue.shade)
    if cue.pull:
        return torch.from_numpy(softened(edge_cut(probability.numpy(), picture.numpy(), cue.pull)))
    return probability


def _dice(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
