"""`random`: the baseline that every other strategy has to beat."""

from __future__ import annotations

import random

from monailabel_app.lib.activelearning.strategy import Ranked, Ranking
from monailabel_app.lib.scores import Scores
from monailabel_app.lib.worklist import Entry, Worklist, free


class Random(Ranking):
    """Every free image with the same chance."""

    def __init__(self, worklist: Worklist, scores: Scores, seed: int | None = None) -> None:
        super().__init__(worklist, scores, "Any unlabelled image")
        self._random = random.Random(seed)

    def ranked(self, entries: list[Entry]) -> Ranked:
        """See Ranking."""
        images = free(entries)
        self._random.shuffle(images)
        return [(image, 1.0) for image in images]
