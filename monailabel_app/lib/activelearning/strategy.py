"""What every strategy shares: only free images are ranked, and the first one is reserved."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from monailabel_app.lib.configs.options import text
from monailabel_app.lib.scores import Score, Scores
from monailabel_app.lib.worklist import Entry, Worklist, free

CLIENT = text("client_id", "the name of the client that asks")

STOCK_NAME = "user-xyz"
"""What the stock client calls everybody who has not chosen a name."""

SECONDS = 2.0
"""For scores that are missing: a client waits for the answer. What is not scored by then comes later."""

Ranked = list[tuple[str, float]]
"""Images with what they are ranked by, the best first."""


class Ranking(Strategy):
    """`request`: `client_id`, for whom the image is reserved; without one for nobody, till it expires.

    A client that asks again gets another image: it may fetch one while it works on the first. When no image
    is free a client with a name of its own gets the one again that it has had longest, so that it can go on
    when it was started anew.
    """

    def __init__(self, worklist: Worklist, scores: Scores, description: str) -> None:
        super().__init__(description)
        self.worklist, self.scores = worklist, scores

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """`{"id", "weight"}`, or None where nothing is left to do. Raises RequestError."""
        client = CLIENT.read(request)
        entries = self.worklist.entries(self.scores.uncertainties())
        for image, weight in self.ranked(entries):
            if self.worklist.lease(image, client or uuid.uuid4().hex):
                return {"id": image, "weight": weight}
        todo = {entry.image for entry in entries if entry.open}
        own = (
            [image for image in self.worklist.leased_by(client) if image in todo] if own_name(client) else []
        )
        return {"id": own[0], "weight": 0.0} if own else None

    @abstractmethod
    def ranked(self, entries: list[Entry]) -> Ranked:
        """The free images among the entries of the worklist."""


def own_name(client: str) -> bool:
    """Whether it is one client's: several may share an address, or have kept the stock client's name."""
    if client in ("", STOCK_NAME):
        return False
    with suppress(ValueError):
        ip_address(client)
        return False
    return True


def free_and_taken(entries: list[Entry]) -> tuple[list[str], list[str]]:
    """Images that can be offered, and those that are labelled already or that somebody works on."""
    taken = [entry.image for entry in entries if entry.status != "skipped"]
    offered = free(entries)
    return offered, [image for image in taken if image not in set(offered)]


def uncertainty_of(score: Score | None) -> float:
    """What is not known yet comes after what is, and before what cannot be read."""
    return -0.5 if score is None or score.uncertainty is None else score.uncertainty
