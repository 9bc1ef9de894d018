"""What the denoiser was trained on, as directions in embedding space: small enough to travel with a bundle.

Holds embeddings only, no pixel and no name. It answers how close a picture comes to its nearest training
image, and how close real radiographs of different patients come to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dino_diffusion.errors import BundleError, ConfigurationError

FILE = "training_index.safetensors"
MOST_BYTES = 2_900_000
"""Of the codes: more images than fit keep fewer of the whitened (equally weighted) dimensions."""

REFERENCES = 1001
"""Evenly spaced quantiles kept of the distances between different patients."""

FEWEST = 100
"""Images of known patients that the reference needs."""

BLOCK = 1024
"""Rows compared at once: bounds the memory."""


@dataclass(frozen=True, eq=False)
class TrainingIndex:
    """`codes` int8 (N, D): the CLS token of each training image as a direction, D leading dimensions of it.

    `reference` float32 (REFERENCES,), rising: quantiles of the cosine distance from a training image to the
    nearest one of another patient.
    """

    codes: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, patients: Sequence[str]) -> TrainingIndex:
        """From whitened CLS tokens `(N, width)` and the patient of each image, "" where unknown.

        The reference is measured on the images of known patients, among themselves: two unknown ones may be
        one person, who would make a copy look like honest likeness. Fewer candidates are farther away, so the
        check warns rather too early than too late. Raises ConfigurationError where they are too few.
        """
        kept = max(1, min(tokens.shape[1], MOST_BYTES // len(tokens)))
        directions = _directions(np.asarray(tokens, np.float32)[:, :kept])
        largest = np.abs(directions).max(axis=1, keepdims=True)
        codes = np.rint(directions / largest * 127).astype(np.int8)
        return cls(codes, _reference(_directions(codes.astype(np.float32)), np.asarray(patients)))

    @cached_property
    def directions(self) -> np.ndarray:
        """Unit vectors float32 `(N, D)`."""
        return _directions(self.codes.astype(np.float32))

    def nearest(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosine distance (0 to 2) of CLS tokens `(B, width)` to their nearest training image, and which."""
        similarity = _directions(np.asarray(tokens, np.float32)[:, : self.codes.shape[1]]) @ self.directions.T
        return (1 - similarity.max(axis=1)).clip(min=0), similarity.argmax(axis=1)

    def closer_than(self, distance: float) -> float:
        """Percentage of real radiographs that keep farther from every other patient than `distance`."""
        return float(100 * np.interp(distance, self.reference, np.linspace(1, 0, len(self.reference))))

    def save(self, folder: Path) -> None:
        """Writes `FILE` into a bundle's folder."""
        save_file({"codes": self.codes, "reference": self.reference}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> TrainingIndex | None:
        """A bundle's index, None where it has none. Raises BundleError for a damaged one."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            stored = load_file(path)
            codes, reference = stored["codes"], stored["reference"]
            if codes.dtype != np.int8 or codes.ndim != 2 or reference.shape != (REFERENCES,):
                raise ValueError(f"{codes.dtype} {codes.shape}, {reference.shape}")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise BundleError(
                f"{path}: the index of training images is damaged; copy the bundle again, or delete this "
                "file to do without the check."
            ) from error
        return cls(codes, reference)


def _directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)


def _reference(directions: np.ndarray, patients: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(patients != "")
    if len(known) < FEWEST or len(set(patients[known])) < 2:
        raise ConfigurationError(
            f"{len(known)} training images of known patients are too few to tell how alike different "
            f"patients are; list at least {FEWEST} with a patient_id."
        )
    distances = []
    for start in range(0, len(known), BLOCK):
        rows = known[start : start + BLOCK]
        similarity = directions[rows] @ directions[known].T
        similarity[patients[rows][:, None] == patients[known][None]] = -1
        distances.append(1 - similarity.max(axis=1))
    return np.quantile(np.concatenate(distances), np.linspace(0, 1, REFERENCES)).astype(np.float32)
