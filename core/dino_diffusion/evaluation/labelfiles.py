"""Label pictures on disk, and their pairing with images by stem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from dino_diffusion.evaluation import EvaluationError, evenly
from dino_diffusion.files.formats import stem_of

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Read with SimpleITK, because they carry a pixel spacing; everything else is a picture."""

Spacing = tuple[float, float]
"""Row and column spacing in mm."""


def stem(path: Path) -> str:
    """File name without its ending; `.nii.gz` counts as one, the last number of a DICOM UID as none."""
    known = stem_of(path)
    return path.stem if known == path.name and path.suffix[1:].isalpha() else known


@dataclass(frozen=True)
class Pairs:
    """Images and masks of the same stem, and the file names that found no partner.

    `ambiguous` lists stems that occur more than once in one of the folders: which file was meant cannot
    be told, so none is taken.
    """

    matched: list[tuple[Path, Path]]
    images_alone: list[str]
    masks_alone: list[str]
    ambiguous: list[str]

    def limited(self, limit: int | None) -> Pairs:
        """`limit` pairs, evenly picked, as if there were no other files; all of them where it is no less."""
        if limit is None or limit >= len(self.matched):
            return self
        return Pairs([self.matched[i] for i in evenly(len(self.matched), limit)], [], [], [])


def pair_by_stem(images_dir: Path, masks_dir: Path) -> Pairs:
    """Pair the files of two folders (not their subfolders).

    Raises:
        EvaluationError: a folder is missing, or no file of one has a partner in the other.
    """
    images, masks = _by_stem(images_dir), _by_stem(masks_dir)
    common = sorted(images.keys() & masks.keys())
    if not common:
        raise EvaluationError(
            f"No image in {images_dir} has a mask of the same name in {masks_dir}: "
            "give mask files the names of their images, for example a.png and a.png."
        )
    ambiguous = [name for name in common if len(images[name]) > 1 or len(masks[name]) > 1]
    return Pairs(
        matched=[(images[name][0], masks[name][0]) for name in common if name not in ambiguous],
        images_alone=[file.name for name in sorted(images.keys() - masks.keys()) for file in images[name]],
        masks_alone=[file.name for name in sorted(masks.keys() - images.keys()) for file in masks[name]],
        ambiguous=ambiguous,
    )


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is not a folder: give the folder that holds the files to compare.")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            files.setdefault(stem(path), []).append(path)
    return files


def read_labels(path: Path) -> tuple[np.ndarray, Spacing | None]:
    """Label values of a mask file as `(H, W)` uint8, and its spacing where the format stores one.

    Raises:
        EvaluationError: unreadable, coloured, more than one slice, or values that are no labels.
    """
    is_volume = path.name.lower().endswith(VOLUME_SUFFIXES)
    values, spacing = _read_volume(path) if is_volume else _read_picture(path)
    if values.ndim != 2:
        raise EvaluationError(
            f"{path} is not one grey picture (its array is {' x '.join(map(str, values.shape))}): "
            "save the mask as a single slice of label values 0, 1 and 2."
        )
    if np.any(values != np.clip(np.round(values), 0, 255)):
        raise EvaluationError(f"{path} has values that are no labels: save whole numbers 0, 1 and 2.")
    return values.astype(np.uint8), spacing


def _read_picture(path: Path) -> tuple[np.ndarray, None]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture), None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise EvaluationError(
            f"{path} cannot be read as a label picture: save the mask as PNG, NIfTI or NRRD."
        ) from error


def _read_volume(path: Path) -> tuple[np.ndarray, Spacing]:
    import SimpleITK as sitk  # only where a mask needs it

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise EvaluationError(
            f"{path} cannot be read as a label image: save the mask as PNG, NIfTI or NRRD."
        ) from error
    values = sitk.GetArrayFromImage(image)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    column, row = image.GetSpacing()[:2]
    return values, (float(row), float(column))
