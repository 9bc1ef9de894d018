"""`first`: by name."""

from __future__ import annotations

from monailabel_app.lib.activelearning.strategy import Ranked, Ranking
from monailabel_app.lib.scores import Scores
from monailabel_app.lib.worklist import Entry, Worklist, free


class First(Ranking):
    """In the order of the images' names."""

    def __init__(self, worklist: Worklist, scores: Scores) -> None:
        super().__init__(worklist, scores, "The first unlabelled image by name")

    def ranked(self, entries: list[Entry]) -> Ranked:
        """See Ranking."""
        return [(image, 1.0) for image in free(entries)]
