"""What every export starts from: submitted labels as upright pictures, one name a class."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from monailabel.interfaces.datastore import Datastore

from dino_diffusion.errors import ConfigurationError, DinoDiffusionError
from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.engine import image_file
from monailabel_app.lib.labels import StoredLabel, submitted_labels
from monailabel_app.lib.worklist import FINAL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """One image with its labels, all upright. `layers` (H, W) hold the numbers of `Classes`.

    `name`: of its files, made from the image's id. Only segments that overlap take several layers.
    """

    image: str
    name: str
    radiograph: Radiograph
    layers: list[np.ndarray]

    @property
    def mask(self) -> np.ndarray:
        """uint8 `(H, W)`: all layers as one, a later one over an earlier."""
        merged = self.layers[0].copy()
        for layer in self.layers[1:]:
            merged[layer > 0] = layer[layer > 0]
        return merged

    def where(self, number: int) -> np.ndarray:
        """`(H, W)` bool: one class, whole."""
        return np.any([layer == number for layer in self.layers], axis=0)


@dataclass(frozen=True)
class Classes:
    """Names in order; the first is 1. The same name means the same class, whatever value a client gave it."""

    names: tuple[str, ...]

    def mask(self, values: np.ndarray, label: StoredLabel) -> np.ndarray:
        """uint8 numbers of the classes from a label's own values."""
        mask = np.zeros(values.shape, dtype=np.uint8)
        for value in present(values):
            mask[values == value] = 1 + self.names.index(label.name_of(value))
        return mask


@dataclass
class Export:
    """What was written: cases by image, and images left out with the reason."""

    folder: Path
    cases: dict[str, str]
    left_out: dict[str, str]


def gather(datastore: Datastore, images: Sequence[str] = (), tag: str = FINAL) -> Gathered:
    """All labels of a tag, or those of certain images. Raises ConfigurationError where there is none."""
    labels = [label for label in submitted_labels(datastore, tag) if not images or label.image in images]
    if not labels:
        raise ConfigurationError("There is no submitted label to export; submit one first.")
    left_out: dict[str, str] = {}
    names: set[str] = set()
    readable = []
    for label in labels:
        try:
            _, values = _read(datastore, label)
        except (DinoDiffusionError, OSError) as error:
            left_out[label.image] = " ".join(str(error).split())
            continue
        names |= {label.name_of(value) for value in present(values)}
        readable.append(label)
    return Gathered(datastore, readable, Classes(tuple(sorted(names))), left_out)


@dataclass(frozen=True)
class Gathered:
    """Labels that can be read, with their classes; the pictures are read one by one, so they may be many."""

    datastore: Datastore
    labels: list[StoredLabel]
    classes: Classes
    left_out: dict[str, str]

    @property
    def count(self) -> int:
        """How many images."""
        return len({label.image for label in self.labels})

    def cases(self) -> Iterator[Case]:
        """In the order of the images' names."""
        used: set[str] = set()
        ordered = sorted(self.labels, key=lambda label: (label.image, label.tag))
        for image, layers in groupby(ordered, key=lambda label: label.image):
            read = [(label, *_read(self.datastore, label)) for label in layers]
            masks = [self.classes.mask(values, label) for label, _, values in read]
            name = plain = re.sub(r"[^A-Za-z0-9_-]", "_", image)
            number = 1
            while name.casefold() in used:
                number += 1
                name = f"{plain}_{number}"
            used.add(name.casefold())
            yield Case(image, name, read[0][1], masks)


def present(values: np.ndarray) -> list[int]:
    """Label values but the background's."""
    return [int(value) for value in np.unique(values) if value]


def check_empty(folder: Path) -> None:
    """Raises ConfigurationError for a folder that holds something: an export never mixes with older files."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder}: is not empty; name a new folder.")


def _read(datastore: Datastore, label: StoredLabel) -> tuple[Radiograph, np.ndarray]:
    radiograph = Radiograph.read(image_file(Path(datastore.get_image_uri(label.image))))
    return radiograph, read_labels(label.path, radiograph)
