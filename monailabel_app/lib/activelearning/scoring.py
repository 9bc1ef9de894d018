"""`uncertainty` as MONAI Label's scoring method: scores every image that has no score yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from monailabel_app.lib.scores import Scores
from monailabel_app.progress import part, report


class ScoreAll(ScoringMethod):
    """Can be stopped and goes on where it was: what is scored is kept."""

    def __init__(self, scores: Scores) -> None:
        super().__init__("Uncertainty and embedding of every image that has none yet")
        self.scores = scores

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, int]:
        """How many were there and how many are new. Lets Cancelled through."""
        images = sorted(datastore.list_images())
        known = self.scores.uncertainties()
        missing = [image for image in images if image not in known]
        for number, image in enumerate(missing):
            said = f"Scoring image {number + 1} of {len(missing)}"
            report(number / len(missing), said)
            with part(number / len(missing), (number + 1) / len(missing), said):
                self.scores.note(image, Path(datastore.get_image_uri(image)))
        return {"images": len(images), "new": len(missing)}
