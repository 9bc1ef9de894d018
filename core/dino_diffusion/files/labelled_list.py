"""A list of images with a label each: what a class, a classifier and a test set are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.files.image_list import read_rows

PATIENT = ("patient", "patient_id")


@dataclass(frozen=True)
class LabelledImage:
    """`patient` is "" where the list does not say."""

    path: Path
    label: str
    patient: str = ""


def read_labelled(path: Path) -> list[LabelledImage]:
    """Rows of a CSV with the columns `image` (a path beside the list), `label` and, optionally, `patient`.

    Raises ConfigurationError, one sentence a defect: no such list or column, a row without a label, an image
    that is not there or that is listed twice.
    """
    rows = read_rows(path)
    if not rows:
        raise ConfigurationError(f"{path}: the list is empty; give some images with their labels.")
    if "label" not in rows[0]:
        raise ConfigurationError(f"{path}: the list has no column 'label'; say in one what each image shows.")
    seen: set[Path] = set()
    for number, row in enumerate(rows, start=2):
        image, label = row["image"], (row["label"] or "").strip()
        if not image or not label:
            raise ConfigurationError(f"{path}: row {number} lacks its image or label; complete or remove it.")
        file = path.parent / image
        if not file.is_file():
            raise ConfigurationError(f"{path}: row {number} names {image}, which is not there; correct it.")
        if file.resolve() in seen:
            raise ConfigurationError(f"{path}: row {number} lists {image} once more; keep one row an image.")
        seen.add(file.resolve())
    patient = next((name for name in PATIENT if name in rows[0]), None)
    return [
        LabelledImage(
            path.parent / row["image"], row["label"].strip(), (row[patient] or "").strip() if patient else ""
        )
        for row in rows
    ]


def by_label(images: list[LabelledImage]) -> dict[str, list[LabelledImage]]:
    """The images of each label, labels in alphabetical order, images in that of the list."""
    return {
        label: [image for image in images if image.label == label]
        for label in sorted({image.label for image in images})
    }
