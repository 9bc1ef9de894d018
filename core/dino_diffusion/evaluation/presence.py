"""Structures that not every image shows: how well they are drawn where they are, and what is found elsewhere.

A mean over all images mixes the two: an image without counts 1 where nothing is found on it, 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dino_diffusion.evaluation.overlap import ImageScores


@dataclass(frozen=True)
class Presence:
    """Of one structure: `showing` images have it, `without` have not.

    `dice`: mean over those that show it, None where none does. `missed`: of these, how many nothing of it was
    found on. `falsely_found`: on how many of the others something was.
    """

    showing: int
    dice: float | None
    missed: int
    without: int
    falsely_found: int


def presence_of(scores: Sequence[ImageScores]) -> dict[str, Presence]:
    """Of each structure that one image or more does not show."""
    found = {}
    for name in scores[0].dice:
        there = [score.dice[name] for score in scores if name in score.shown]
        elsewhere = [score.dice[name] for score in scores if name not in score.shown]
        if elsewhere:
            dice = sum(there) / len(there) if there else None
            found[name] = Presence(len(there), dice, there.count(0), len(elsewhere), elsewhere.count(0))
    return found
