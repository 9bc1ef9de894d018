"""`uncertainty`: where the model's own votes about the lungs disagree most."""

from __future__ import annotations

from monailabel_app.lib.activelearning.strategy import SECONDS, Ranked, Ranking, uncertainty_of
from monailabel_app.lib.scores import Scores
from monailabel_app.lib.worklist import Entry, Worklist, free


class Uncertainty(Ranking):
    """The most uncertain of those that are scored; each call scores some more."""

    def __init__(self, worklist: Worklist, scores: Scores) -> None:
        super().__init__(worklist, scores, "The image whose lungs are most uncertain")

    def ranked(self, entries: list[Entry]) -> Ranked:
        """See Ranking."""
        images = free(entries)
        known = self.scores.fill(images, uncertain=True, seconds=SECONDS)
        weights = {image: uncertainty_of(known.get(image)) for image in images}
        return sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
