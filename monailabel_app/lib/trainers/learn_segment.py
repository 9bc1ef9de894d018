"""`learn_segment`: teaches a segment from the labels submitted so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from dino_diffusion.segmentation.embedding import SegmentEmbedding
from dino_diffusion.segmentation.learn import Example, learn
from monailabel_app.lib.configs.options import display, names, read, text, whole
from monailabel_app.lib.embeddings import Embeddings, Learnt, Version, task_name
from monailabel_app.lib.engine import Engine
from monailabel_app.lib.errors import RequestError
from monailabel_app.lib.labels import StoredLabel, submitted_labels
from monailabel_app.lib.trainers.lessons import Read, agreement, chosen, divide, example
from monailabel_app.progress import report

READ, LEARNT = 0.05, 0.85
"""Shares of the work that are done when the examples are read, and when they are learnt."""


class LearnSegment(TrainTask):
    """Every training learns anew, from all labels that are not kept back, and makes a new version.

    It is used from then on unless it does worse than the version in use on labels that neither has seen.
    """

    options = (
        text("label", "the name or value of a segment in the submitted labels", 64),
        text("name", "what to call the learnt segment", 48),
        names("images", "names of images with commas between them", 10_000),
        whole("seed", 0, 0, 2**31 - 1),
    )

    def __init__(self, engine: Engine, embeddings: Embeddings) -> None:
        super().__init__("Learns a segment from the submitted labels; the model itself stays as it is")
        self.engine, self.embeddings = engine, embeddings

    def config(self) -> dict[str, Any]:
        """For `/info`."""
        return display(self.options)

    def stats(self) -> dict[str, Any]:
        """For `/info`: each learnt segment's version in use, and its Dice if that was measured."""
        return {
            learnt.name: {"active": learnt.active, "versions": len(learnt.versions), "dice": _dice(learnt)}
            for learnt in self.embeddings.all().values()
        }

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Raises RequestError for labels that cannot be learnt from, and Cancelled.

        `label` is a name or a value, without it the name of the segment. Answers with `name`, `model` (the
        infer task), `version`, `activated`, `dice`, `before`, `examples`, how many of them are `without` it,
        `checks`, `warnings`.
        """
        started = time.perf_counter()
        label, name, settings = self._wanted(request)
        report(0.0, "Reading the labels")
        learnt = self.embeddings.plan(name)
        called = learnt.names(label)
        if not label.isdecimal() and label.casefold() != learnt.name.casefold():
            learnt.drawn_as = label
        labels = chosen(submitted_labels(datastore), settings["images"])

        def read_one(one: StoredLabel) -> Example | None:
            return example(one, called, learnt.value, Path(datastore.get_image_uri(one.image)))

        def read_next(one: StoredLabel) -> Example | None:
            report(0.0, "Reading the labels")
            return read_one(one)

        lessons, checks = divide(learnt, labels, read_next)
        without = sum(not mask.any() for _, mask in lessons.values())
        if len(lessons) == without:
            raise RequestError(_nothing(label, labels, without))
        embedding = self._learn(learnt, lessons, settings["seed"])
        version = Version(0, "", list(lessons))
        self._judge(learnt, version, embedding, checks, read_one)
        kept = self.embeddings.add(learnt, embedding, version)
        report(1.0, "Done")
        worse = f"Version {version.version} does worse than version {kept.active} on labels that neither saw"
        return {
            "name": kept.name,
            "model": task_name(kept),
            "version": version.version,
            "activated": version.activated,
            "dice": version.dice,
            "before": version.before,
            "examples": len(lessons),
            "without": without,
            "checks": len(checks),
            "warnings": [] if version.activated else [f"{worse}; it is kept, and not used."],
            "seconds": round(time.perf_counter() - started, 3),
        }

    def _wanted(self, request: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Label, name and the other settings."""
        label = request.get("label")
        settings = read(self.options, {**request, "label": str(label) if type(label) is int else label})
        label, name = settings["label"] or settings["name"], settings["name"] or settings["label"]
        if not name or name.isdecimal():
            raise RequestError(
                "Say what to learn: 'label', a segment's name or value, and 'name', its new name."
            )
        return label, name, settings

    def _learn(self, learnt: Learnt, lessons: dict[str, Example], seed: int) -> SegmentEmbedding:
        said = f"Learning '{learnt.name}' from {len(lessons)} label{'s' * (len(lessons) > 1)}"
        report(READ, said)
        return learn(
            self.engine.bundle,
            list(lessons.values()),
            learnt.name,
            labels=[learnt.value],
            callback=lambda done, total: report(READ + (LEARNT - READ) * done / total, said),
            names={learnt.value: learnt.name},
            seed=seed,
        )

    def _judge(
        self,
        learnt: Learnt,
        version: Version,
        embedding: SegmentEmbedding,
        checks: list[StoredLabel],
        read_one: Read,
    ) -> None:
        """Compares with the version in use on the labels kept back, where there are both."""
        if not checks:
            return
        rivals = [embedding]
        if learnt.active and self.embeddings.fits(learnt):
            rivals.append(self.embeddings.open(learnt.name))
        said = f"Judging by {len(checks)} label{'s' * (len(checks) > 1)} kept back"
        pairs = (found for label in checks if (found := read_one(label)) is not None)
        scores = agreement(
            self.engine.bundle, rivals, pairs, learnt.value, lambda done, total: report(LEARNT, said)
        )
        version.dice = round(scores[0], 4)
        if len(scores) > 1:
            version.before = round(scores[1], 4)
            version.activated = scores[0] >= scores[1]


def _dice(learnt: Learnt) -> float | None:
    return next((v.dice for v in learnt.versions if v.version == learnt.active), None)


def _nothing(label: str, labels: list[StoredLabel], without: int) -> str:
    names = sorted({name for one in labels for name in one.names})
    if not labels:
        return "There is no submitted label to learn from; label an image and submit it first."
    if without:
        return f"The labels to learn from only say that '{label[:64]}' is absent; submit one that shows it."
    held = ", ".join(names[:20]) or "values without names: give one of these"
    return f"No submitted label holds '{label[:64]}'; they hold {held}."
