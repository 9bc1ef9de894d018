"""Making a synthetic data set from a pool of labelled radiographs, alone or as one of many processes."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate.utils import clear_environment

from dino_diffusion.errors import Cancelled
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.files.write_image import check_not_original
from dino_diffusion.generation.composition import generate_concept
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.embedding import ImageClass
from dino_diffusion.generation.invert import Callback as Learning
from dino_diffusion.generation.invert import invert
from dino_diffusion.generation.nearest import CHECK
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.sampled import BATCH_ON_GPU, Synthetic
from dino_diffusion.generation.save import save_synthetic
from dino_diffusion.generation.synthesis import (
    CLASS_MEAN,
    CONCEPT,
    CONCEPTS,
    LIKE,
    MANIFEST,
    Label,
    Planned,
    Synthesis,
)
from dino_diffusion.generation.variants import Variation, generate
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SamplingStep

Stop = Callable[[], bool]
"""Asked once a sampling step; True ends the work with Cancelled, and no file is half written."""

COLUMNS = ("image", "label", "recipe", "method", "nearest_percentile")


def synthesize(
    bundle: ModelBundle,
    synthesis: Synthesis,
    tell: Callable[[Planned], None] = lambda picture: None,
    learning: Learning | None = None,
) -> Path:
    """Makes what is missing of a data set, and its manifest; returns the manifest's path.

    `tell` hears of each picture once it is there, also of those that were; `learning` of each step of
    inversion. Raises ConfigurationError for a folder that holds another data set, and whatever reading,
    inversion and writing raise.
    """
    prepare(bundle, synthesis, learning)
    for picture in make(bundle, synthesis):
        tell(picture)
    return write_manifest(synthesis, manifest_rows(synthesis))


def prepare(bundle: ModelBundle, synthesis: Synthesis, learning: Learning | None = None) -> None:
    """Claims the folder and learns the concepts that are missing in it; done by one process alone."""
    synthesis.claim(bundle.id)
    if synthesis.settings.method != CONCEPT:
        return
    for label in synthesis.labels:
        if not synthesis.concept_file(label).exists():
            _learn(bundle, synthesis, label, learning)


def _learn(bundle: ModelBundle, synthesis: Synthesis, label: Label, learning: Learning | None) -> None:
    settings, file = synthesis.settings, synthesis.concept_file(label)
    work = synthesis.folder / CONCEPTS / f".{label.name}"
    # Inversion trains with accelerate, which would wait for the other processes of a launcher: they wait too.
    with clear_environment():
        concept = invert(
            bundle,
            label.images,
            label.name,
            steps=settings.inversion_steps,
            seed=settings.seed,
            callback=learning,
            folder=work,
            description=f"Learnt for a synthetic data set from its images of '{label.text}'."[:400],
        )
    concept.save(file)
    shutil.rmtree(work, ignore_errors=True)


def make(
    bundle: ModelBundle, synthesis: Synthesis, share: int = 0, shares: int = 1, stop: Stop = lambda: False
) -> Iterator[Planned]:
    """Makes the pictures of one share out of `shares`, each file whole or not at all; gives each once it is
    there. What an earlier run made is kept. Raises Cancelled where `stop` says so."""
    maker = _Maker(bundle, synthesis, stop)
    alone = synthesis.settings.method == LIKE or bundle.device.type == "cpu"
    for batch in synthesis.batches(1 if alone else BATCH_ON_GPU)[share::shares]:
        if stop():
            raise Cancelled("Stopped; the same command goes on with the pictures that are missing.")
        # A batch is made as a whole: on a GPU its size decides how its pictures are rounded.
        if any(picture.made(synthesis.folder) is None for picture in batch):
            for picture, item in zip(batch, maker.pictures(batch), strict=True):
                path = synthesis.folder / picture.file
                check_not_original(path, picture.label.images)
                save_synthetic(item, path)
        yield from batch


class _Maker:
    """Pictures by the method of a data set; what a label's pictures share is worked out once."""

    def __init__(self, bundle: ModelBundle, synthesis: Synthesis, stop: Stop) -> None:
        self.bundle, self.synthesis, self.stop = bundle, synthesis, stop
        self._classes: dict[Label, ImageClass] = {}
        self._concepts: dict[Label, Concept] = {}

    def pictures(self, batch: list[Planned]) -> list[Synthetic]:
        """Of neighbours of one label."""
        settings, label, first = self.synthesis.settings, batch[0].label, batch[0]
        given: dict[str, Any] = {"seed": settings.seed, "steps": settings.steps, "first": first.noise}
        if settings.guidance is not None:
            given["guidance"] = settings.guidance
        if settings.method == CONCEPT:
            concepts = [(self._concept(label), 1.0)]
            return generate_concept(self.bundle, concepts, len(batch), callback=self._go_on, **given)
        return generate(self.bundle, len(batch), self._variation(first), callback=self._go_on, **given)

    def _variation(self, picture: Planned) -> Variation:
        settings, images = self.synthesis.settings, picture.label.images
        if settings.method == CLASS_MEAN:
            return Variation(image_class=self._class(picture.label), jitter=settings.jitter)
        like = Radiograph.read(images[picture.index % len(images)])
        return Variation(like, strength=settings.strength, jitter=settings.jitter)

    def _class(self, label: Label) -> ImageClass:
        if label not in self._classes:
            self._classes[label] = ImageClass.of(self.bundle, map(Radiograph.read, label.images))
        return self._classes[label]

    def _concept(self, label: Label) -> Concept:
        if label not in self._concepts:
            self._concepts[label] = Concept.load(self.synthesis.concept_file(label))
        return self._concepts[label]

    def _go_on(self, step: SamplingStep) -> bool:
        return not self.stop()


def manifest_rows(synthesis: Synthesis) -> list[dict[str, Any]]:
    """A row a picture of a set that is all there: its file, label, recipe, method, and how close it comes to
    a training image (per cent of real radiographs that keep farther, "" where the bundle has no index)."""
    rows = []
    for picture in synthesis.planned():
        checks = Recipe.read(synthesis.folder / picture.recipe).checks
        values = (picture.file, picture.label.text, picture.recipe, synthesis.settings.method)
        close = checks[CHECK]["closer_than"] if CHECK in checks else ""
        rows.append(dict(zip(COLUMNS, (*values, close), strict=True)))
    return rows


def write_manifest(synthesis: Synthesis, rows: list[dict[str, Any]]) -> Path:
    """The set's list, which `evaluate utility` takes."""
    path = synthesis.folder / MANIFEST
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return path
