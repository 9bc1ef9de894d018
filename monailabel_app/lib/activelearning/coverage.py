"""`coverage`: the image least like any that is labelled (core-set: Sener and Savarese, ICLR 2018)."""

from __future__ import annotations

import numpy as np

from monailabel_app.lib.activelearning.strategy import SECONDS, Ranked, Ranking, free_and_taken
from monailabel_app.lib.scores import Scores
from monailabel_app.lib.worklist import Entry, Worklist


class Coverage(Ranking):
    """Greedy k-centre over the encoder's embeddings; before the first label the most typical image."""

    def __init__(self, worklist: Worklist, scores: Scores) -> None:
        super().__init__(worklist, scores, "The image least like those that are labelled")

    def ranked(self, entries: list[Entry]) -> Ranked:
        """See Ranking. Images whose embedding is not there yet come last."""
        images, taken = free_and_taken(entries)
        known = self.scores.fill([*images, *taken], uncertain=False, seconds=SECONDS)
        found = {image: score.embedding for image, score in known.items() if score.embedding is not None}
        ready = [image for image in images if image in found]
        weights = dict.fromkeys(images, -1.0)
        if ready:
            own = np.stack([found[image] for image in ready])
            centres = [found[image] for image in taken if image in found]
            weights |= dict(zip(ready, distances(own, centres), strict=True))
        return sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))


def distances(own: np.ndarray, centres: list[np.ndarray]) -> list[float]:
    """Cosine distance of unit vectors `(N, width)` to the nearest centre.

    Without centres 1 plus the cosine to their mean: the most typical one leads.
    """
    if centres:
        return (1 - (own @ np.stack(centres).T).max(axis=1)).tolist()
    mean = own.mean(axis=0)
    return (1 + own @ mean / max(float(np.linalg.norm(mean)), 1e-12)).tolist()
