"""What orders the worklist: each image's uncertainty and embedding, computed once and kept.

They come for nothing with every `lungs` inference, and are computed for the rest a few at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monailabel.interfaces.datastore import Datastore

from dino_diffusion.errors import Cancelled, DinoDiffusionError
from monailabel_app.lib.database import Database
from monailabel_app.lib.engine import Engine, file_stamp

logger = logging.getLogger(__name__)

UNREADABLE = -1.0
"""Uncertainty noted for an image that cannot be read, so that it is not tried again and comes last."""


@dataclass(frozen=True)
class Score:
    """`uncertainty` of the lungs in [0, 1], None where only the `embedding` (width,) is known so far."""

    uncertainty: float | None
    embedding: np.ndarray | None


class Scores:
    """By image and model. A changed file is scored anew when it is segmented again."""

    def __init__(self, database: Database, engine: Engine, datastore: Callable[[], Datastore]) -> None:
        self.database, self.engine, self.datastore = database, engine, datastore
        self.model = engine.bundle.observing_id

    def known(self) -> dict[str, Score]:
        """All that are kept for this model, by image."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT * FROM scores WHERE model = ?", (self.model,)).fetchall()
        return {row["image"]: _score(row["uncertainty"], row["embedding"]) for row in rows}

    def uncertainties(self) -> dict[str, float]:
        """Those that are known, by image."""
        known = self.known().items()
        return {
            image: score.uncertainty
            for image, score in known
            if score.uncertainty is not None and score.uncertainty >= 0
        }

    def note(self, image: str, path: Path) -> Score:
        """Uncertainty and embedding of an image: from what is kept, or by segmenting it."""
        return self._of(image, path, uncertain=True)

    def fill(self, images: Iterable[str], uncertain: bool, seconds: float) -> dict[str, Score]:
        """Scores of `images`, missing ones computed in their order for about `seconds`, one at least.

        `uncertain`: with the uncertainty, which takes the denoiser; else the embedding alone, far cheaper.
        Images that cannot be read are noted as such. Lets Cancelled through.
        """
        known, end, done = self.known(), time.monotonic() + seconds, 0
        for image in images:
            score = known.get(image)
            if score is not None and _enough(score, uncertain):
                continue
            if done and time.monotonic() >= end:
                break
            done += 1
            try:
                path = Path(self.datastore().get_image_uri(image))
            except Exception as error:
                # Of an archive that does not answer just now, whatever its client raises: tried again later.
                logger.warning("An image cannot be fetched: %s", type(error).__name__)
                continue
            known[image] = self._of(image, path, uncertain)
        return known

    def _of(self, image: str, path: Path, uncertain: bool) -> Score:
        try:
            stamp = file_stamp(path)
            if (kept := self._kept(image, stamp)) is not None and _enough(kept, uncertain):
                return kept
            radiograph = self.engine.open(path)
            doubt = self.engine.lungs(radiograph).uncertainty if uncertain else None
            score = Score(doubt, self.engine.embedding(radiograph))
        except Cancelled:
            raise
        except (DinoDiffusionError, OSError) as error:
            logger.warning("An image cannot be scored: %s", type(error).__name__)
            stamp, score = "", Score(UNREADABLE, None)
        self._keep(image, stamp, score)
        return score

    def _kept(self, image: str, stamp: str) -> Score | None:
        with self.database.reading() as connection:
            row = connection.execute(
                "SELECT * FROM scores WHERE image = ? AND model = ? AND stamp = ?", (image, self.model, stamp)
            ).fetchone()
        return None if row is None else _score(row["uncertainty"], row["embedding"])

    def _keep(self, image: str, stamp: str, score: Score) -> None:
        blob = None if score.embedding is None else score.embedding.astype("<f4").tobytes()
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)",
                (image, self.model, stamp, score.uncertainty, blob),
            )


def _score(uncertainty: float | None, embedding: bytes | None) -> Score:
    return Score(uncertainty, None if embedding is None else np.frombuffer(embedding, "<f4"))


def _enough(score: Score, uncertain: bool) -> bool:
    return score.uncertainty is not None or (score.embedding is not None and not uncertain)
