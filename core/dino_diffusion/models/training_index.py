"""What the denoiser was trained on, as directions in embedding space: small enough to travel with a bundle.

Holds embeddings only, no pixel and no name. It answers how much closer a picture comes to one training image
than to the next ones, and how usual that is between real radiographs of different patients.
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
"""Of the codes: more images than fit keep fewer of the equally weighted dimensions, the leading ones."""

NEXT = 20
"""Training images after the nearest whose mean distance the nearest one's is measured by."""

REFERENCES = 1001
"""Evenly spaced quantiles kept of the relative distances between different patients."""

FEWEST = 100
"""Images of known patients that the reference needs."""

BLOCK = 1024
"""Rows compared at once: bounds the memory."""


@dataclass(frozen=True, eq=False)
class TrainingIndex:
    """`codes` int8 (N, D): direction of each training image's embedding, D leading dimensions of it.

    `reference` float32 (REFERENCES,), rising: quantiles of the relative distance (`nearest`) from a training
    image to the nearest one of another patient.
    """

    codes: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray, patients: Sequence[str]) -> TrainingIndex:
        """From whitened embeddings `(N, width)` and the patient of each image, "" where unknown.

        The reference is measured on the images of known patients, among themselves: two unknown ones may be
        one person, who would make a copy look like honest likeness. Raises ConfigurationError where they are
        too few.
        """
        kept = max(1, min(embeddings.shape[1], MOST_BYTES // len(embeddings)))
        directions = _directions(np.asarray(embeddings, np.float32)[:, :kept])
        largest = np.abs(directions).max(axis=1, keepdims=True)
        codes = np.rint(directions / largest * 127).astype(np.int8)
        return cls(codes, _reference(_directions(codes.astype(np.float32)), np.asarray(patients)))

    @cached_property
    def directions(self) -> np.ndarray:
        """Unit vectors float32 `(N, D)`."""
        return _directions(self.codes.astype(np.float32))

    def nearest(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For embeddings `(B, width)`, each `(B,)`: cosine distance (0 to 2) to the nearest training image,
        that distance relative to the mean of the next `NEXT`, and which image it is.

        Radiographs of one source lie closer together than those of another; the relative distance allows for
        it (after Carlini et al. 2023, "Extracting Training Data from Diffusion Models", eq. 3).
        """
        own = _directions(np.asarray(embeddings, np.float32)[:, : self.codes.shape[1]])
        distances = 1 - own @ self.directions.T
        return distances.min(axis=1).clip(min=0), _relative(distances), distances.argmin(axis=1)

    def closer_than(self, relative: float) -> float:
        """Percentage of real radiographs that keep farther from every other patient, in relative distance."""
        return float(100 * np.interp(relative, self.reference, np.linspace(1, 0, len(self.reference))))

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


def _relative(distances: np.ndarray) -> np.ndarray:
    """Smallest of each row `(B, N)` over the mean of the `NEXT` that follow it; `(B,)`."""
    closest = np.sort(np.partition(distances, NEXT, axis=1)[:, : NEXT + 1], axis=1).clip(min=0)
    return closest[:, 0] / closest[:, 1:].mean(axis=1).clip(min=1e-6)


def _reference(directions: np.ndarray, patients: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(patients != "")
    if len(known) < FEWEST or len(set(patients[known])) <= NEXT:
        raise ConfigurationError(
            f"{len(known)} training images of known patients are too few to tell how alike different "
            f"patients are; list at least {FEWEST} with a patient_id."
        )
    relative = []
    for start in range(0, len(known), BLOCK):
        rows = known[start : start + BLOCK]
        distances = 1 - directions[rows] @ directions[known].T
        distances[patients[rows][:, None] == patients[known][None]] = 2
        relative.append(_relative(distances))
    return np.quantile(np.concatenate(relative), np.linspace(0, 1, REFERENCES)).astype(np.float32)
