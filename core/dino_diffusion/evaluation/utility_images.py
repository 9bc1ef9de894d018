"""The images a classifier is trained and tested on: read, labelled, and kept apart by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from dino_diffusion.alterations import draw_alteration
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.evaluation.classifier import SIDE, Batch
from dino_diffusion.files.labelled_list import LabelledImage
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.training.stream import EpochStream


@dataclass(frozen=True, eq=False)
class ImageSet:
    """`pixels` (N, 1, S, S) float32 in [0, 1], `labels` (N,) bool, `patients` (N,) ("": nobody says).

    `files`: SHA-256 of the files; `made_of`: of those that synthetic ones among them say they come from.
    """

    pixels: torch.Tensor
    labels: np.ndarray
    patients: tuple[str, ...]
    files: frozenset[str] = frozenset()
    made_of: frozenset[str] = frozenset()

    @classmethod
    def read(
        cls,
        images: Sequence[LabelledImage],
        positive: str,
        side: int = SIDE,
        tell: Callable[[int], None] = lambda done: None,
    ) -> ImageSet:
        """In the models' view: padded square, normalised grey, so that real and synthetic look alike.

        `tell(1)` after each image. Raises RadiographError for a file that cannot be read.
        """
        views, files, made_of = [], set(), set()
        for image in images:
            radiograph = Radiograph.read(image.path)
            views.append(radiograph.model_view(side).pixels)
            files.add(radiograph.source.sha256)
            made_of |= {*((radiograph.source.synthetic or {}).get("inputs") or {}).values()}
            tell(1)
        labels = np.array([image.label == positive for image in images])
        patients = tuple(image.patient for image in images)
        return cls(torch.cat(views), labels, patients, frozenset(files), frozenset(made_of))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sha256(self) -> str:
        """Of pixels and labels."""
        digest = hashlib.sha256(self.pixels.numpy().tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def counts(self) -> dict[str, int]:
        """Images of the class, and others."""
        return {"positive": int(self.labels.sum()), "negative": int((~self.labels).sum())}


def classes_of(lists: Mapping[str, Sequence[LabelledImage]]) -> tuple[str, str]:
    """Negative and positive label of several lists by name, in alphabetical order: which is which does not
    change an AUC. Raises ConfigurationError unless all lists have the same two labels."""
    found = {name: sorted({image.label for image in images}) for name, images in lists.items()}
    first = next(iter(found.values()))
    for name, labels in found.items():
        if len(labels) != 2 or labels != first:
            raise ConfigurationError(
                f"The {name} list has the labels {', '.join(labels[:6])}; an AUC needs the same two in every "
                f"list (here {', '.join(first[:6])}): make a list for each pair."
            )
    return first[0], first[1]


def check_patients(real: Sequence[LabelledImage], test: Sequence[LabelledImage]) -> None:
    """Raises ConfigurationError where a patient is trained on and tested on."""
    patients = {image.patient for image in real if image.patient}
    shared = sorted(patients & {image.patient for image in test})
    if shared:
        raise ConfigurationError(
            f"{len(shared)} patients are in the real and in the test list, such as {shared[0]}: split the "
            "lists by patient."
        )


def check_files(trained: ImageSet, test: ImageSet, name: str) -> None:
    """Raises ConfigurationError where a test file is trained on, or was the start of a synthetic image."""
    shared = len(test.files & (trained.files | trained.made_of))
    if shared:
        raise ConfigurationError(
            f"{shared} test images are among the {name} ones, or those were made from them: test on images "
            "of other patients."
        )


class BalancedBatches:
    """Batches of one set, half of each class; each image as often as every other of its class.

    `shown` (N, ...): what stands for each image; None for its pixels.
    """

    def __init__(self, images: ImageSet, seed: int, shown: torch.Tensor | None = None) -> None:
        self.labels, self.shown = images.labels, images.pixels if shown is None else shown
        self.members = [np.flatnonzero(images.labels == which) for which in (False, True)]
        self.streams = [
            EpochStream([""] * len(members), 2 * seed + which) for which, members in enumerate(self.members)
        ]

    def batch(self, step: int, size: int) -> tuple[torch.Tensor, np.ndarray]:
        """Pictures and labels; an even number."""
        drawn = zip(self.members, self.streams, strict=True)
        chosen = np.concatenate([members[stream.batch(step, size // 2)] for members, stream in drawn])
        return self.shown[chosen], self.labels[chosen]


def mixed_batches(
    parts: Sequence[tuple[BalancedBatches, int]], steps: int, classical: bool, seed: int
) -> Iterator[Batch]:
    """`steps` batches with so many pictures of each part.

    `classical`: each picture rotated, shifted, zoomed, squashed, its gamma changed, sometimes noisy; anew
    every time.
    """
    rng = np.random.default_rng((seed, 1))
    for step in range(steps):
        drawn = [part.batch(step, count) for part, count in parts]
        pictures = torch.cat([found for found, _ in drawn])
        labels = torch.from_numpy(np.concatenate([found for _, found in drawn])).float()
        if classical:
            pictures = torch.cat([draw_alteration(rng).picture(picture[None]) for picture in pictures])
        yield pictures, labels
