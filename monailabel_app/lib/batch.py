"""Batch inference over the worklist: one image after the other, and what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from dino_diffusion.errors import Cancelled, DinoDiffusionError
from monailabel_app import progress
from monailabel_app.lib.configs.options import choice, flag, tag, whole
from monailabel_app.lib.database import Database
from monailabel_app.lib.engine import file_stamp
from monailabel_app.lib.errors import RequestError
from monailabel_app.lib.worklist import FINAL, Worklist

logger = logging.getLogger(__name__)

WHICH = ("unlabeled", "all", "labeled")
ORIGINAL = DefaultLabelTag.ORIGINAL.value
NO_PART_OF_THE_WORK = {
    "images", "max_batch_size", "again", "device", "multi_gpu", "gpus", "logging", "max_workers",
    "save_label", "description", "client_id",
}  # fmt: skip

Infer = Callable[[dict[str, Any], Datastore], dict[str, Any]]


class Batch(BatchInferTask):
    """`identity`: of a model by its name, as it is now; None for one whose results are no labels.

    Results are stored as labels of a tag, `original` by default; images that fail are reported and left.

    `images`: unlabeled (new ones; the default), all, labeled, or a list of them. An image that was done by
    the same work, that is by the same model and settings, is passed over while it and its label are there, so
    that a batch that was stopped goes on where it was; `again` does everything anew.
    """

    options = (choice("images", WHICH), tag("label_tag"), whole("max_batch_size", 0, 0, 10**9), flag("again"))

    def __init__(self, worklist: Worklist, database: Database, identity: Callable[[str], str | None]) -> None:
        self.worklist, self.database, self.identity = worklist, database, identity

    def get_images(self, request: Mapping[str, Any], datastore: Datastore) -> list[str]:
        """In the order of their names. Raises RequestError for images that are not there."""
        wanted = request.get("images") or WHICH[0]
        known = sorted(datastore.list_images())
        if isinstance(wanted, (list, tuple)):
            if missing := [image for image in wanted if image not in known]:
                raise RequestError(f"images: there is no '{str(missing[0])[:80]}' in the datastore.")
            return list(dict.fromkeys(wanted))
        which = self.options[0].read({"images": wanted})
        if which == "all":
            return known
        entries = self.worklist.entries()
        if which == "labeled":
            return [entry.image for entry in entries if FINAL in entry.labels]
        return [entry.image for entry in entries if entry.status == "new"]

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, infer: Infer
    ) -> dict[str, dict[str, Any]]:
        """By image: `status` (done, passed or failed) with `error`, or `uncertainty` and `warnings`.

        Raises RequestError for a model whose results are no labels, and Cancelled.
        """
        model = str(request.get("model") or "")
        if (identity := self.identity(model)) is None:
            raise RequestError(f"A batch stores labels, which '{model[:64]}' does not make; choose lungs.")
        label_tag = self.options[1].read(request) or ORIGINAL
        if label_tag == FINAL:
            raise RequestError(
                "A batch never writes submitted labels; choose another label_tag than 'final'."
            )
        images = self.get_images(request, datastore)
        most = self.options[2].read(request)
        images = images[:most] if most else images
        work = _work(request, identity, label_tag)
        done = {} if self.options[3].read(request) else self._done(work)
        result: dict[str, dict[str, Any]] = {}
        for number, image in enumerate(images):
            said = f"{model}: image {number + 1} of {len(images)}"
            progress.report(number / len(images), said)
            with progress.part(number / len(images), (number + 1) / len(images), said):
                result[image] = self._one(dict(request), datastore, infer, image, label_tag, work, done)
        progress.report(1.0, "Done")
        return result

    def _one(
        self,
        request: dict[str, Any],
        datastore: Datastore,
        infer: Infer,
        image: str,
        label_tag: str,
        work: str,
        done: dict[str, str],
    ) -> dict[str, Any]:
        try:
            stamp = file_stamp(Path(datastore.get_image_uri(image)))
            if done.get(image) == stamp and label_tag in datastore.get_labels_by_image_id(image):
                return {"status": "passed"}
            asked = request | {"image": image, "save_label": True, "label_tag": label_tag}
            params = infer(asked, datastore)["params"]
        except Cancelled:
            raise
        except Exception as error:
            # One odd image must not end a night's batch, whatever a library or the server makes of it.
            logger.warning("An image of a batch failed: %s", type(error).__name__)
            return {"status": "failed", "error": _sentence(error)}
        with self.database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO batch VALUES (?, ?, ?)", (image, work, stamp))
        return {"status": "done", "uncertainty": params.get("uncertainty"), "warnings": params["warnings"]}

    def _done(self, work: str) -> dict[str, str]:
        with self.database.reading() as connection:
            rows = connection.execute("SELECT image, stamp FROM batch WHERE work = ?", (work,)).fetchall()
        return {row["image"]: row["stamp"] for row in rows}


def _work(request: Mapping[str, Any], identity: str, label_tag: str) -> str:
    """What is to be done, whatever the image: the model as it is now, settings and tag, as one hash."""
    settings = {name: value for name, value in request.items() if name not in NO_PART_OF_THE_WORK}
    settings |= {"identity": identity, "label_tag": label_tag}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _sentence(error: Exception) -> str:
    if not isinstance(error, DinoDiffusionError) and not hasattr(error, "detail"):
        return f"The image cannot be labelled ({type(error).__name__})."
    return " ".join(str(getattr(error, "detail", error)).split())
