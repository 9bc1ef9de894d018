"""Does the model copy its training images? Nearest training neighbours of samples against held-out images.

A held-out image cannot have been copied, so the distances of held-out images to the training set say how
close an honest image may come. Samples that come closer than almost all of them are suspect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dino_diffusion.evaluation import EvaluationError


def nearest_neighbours(queries: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distance (0 to 2) of each query to its nearest training image, and its index, `(N,)` each.

    Args:
        queries: `(N, D)` features.
        training: `(M, D)` features.
    """
    queries, training = _unit(queries, "query"), _unit(training, "training")
    distances, indices = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), 1024):  # bounds the similarity matrix
        rows = slice(start, start + 1024)
        similarity = queries[rows] @ training.T
        indices[rows] = similarity.argmax(axis=1)
        distances[rows] = 1 - similarity.max(axis=1)
    return distances.clip(min=0), indices


def _unit(features: np.ndarray, which: str) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    if features.ndim != 2 or not len(features) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise EvaluationError(
            f"The {which} features (shape {features.shape}) are not finite vectors different from zero, "
            "one an image: compute them again."
        )
    return features / lengths


def evaluate_memorisation(
    samples: np.ndarray,
    held_out: np.ndarray,
    training: np.ndarray,
    percentile: float = 1.0,
    sources: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Share of samples closer to the training set than held-out images come, ready for JSON.

    Args:
        samples, held_out, training: `(N, D)` features of one network; the held-out images were never
            trained on and belong to other patients.
        percentile: of the held-out distances, below which a sample is called suspect.
        sources: of the training images, one each.

    Returns:
        `n_samples`, `n_held_out`, `n_training`; `threshold`: the cosine distance at `percentile`;
        `share`: of the samples below it, where a model that copies nothing and matches the real distribution
        stays near percentile / 100 (`expected_share`);
        `median_sample`, `median_held_out`: median nearest distances;
        `closest_sample`, `closest_held_out`: smallest ones;
        `nearer_than_any`: how many samples come nearer than any held-out image does;
        `suspects`: sample and training index and distance of the suspect ones, closest first;
        `by_source`, with `sources`: see `by_source`.

    Raises:
        EvaluationError: too few held-out images to estimate the percentile, or unusable features.
    """
    needed = int(np.ceil(100 / percentile))
    if len(held_out) < needed:
        raise EvaluationError(
            f"{len(held_out)} held-out images are too few for percentile {percentile:g} of their distances: "
            f"give at least {needed}, or a higher percentile."
        )
    reference, reference_indices = nearest_neighbours(held_out, training)
    distances, indices = nearest_neighbours(samples, training)
    threshold = float(np.percentile(reference, percentile))
    suspects = [i for i in np.argsort(distances).tolist() if distances[i] < threshold]
    found = {
        "n_samples": len(samples),
        "n_held_out": len(held_out),
        "n_training": len(training),
        "percentile": percentile,
        "threshold": threshold,
        "share": len(suspects) / len(samples),
        "expected_share": percentile / 100,
        "median_sample": float(np.median(distances)),
        "median_held_out": float(np.median(reference)),
        "closest_sample": float(distances.min()),
        "closest_held_out": float(reference.min()),
        "nearer_than_any": int((distances < reference.min()).sum()),
        "suspects": [
            {"sample": i, "training": int(indices[i]), "distance": float(distances[i])} for i in suspects
        ],
    }
    if sources is not None:
        found["by_source"] = by_source(sources, indices, reference_indices, indices[suspects])
    return found


def by_source(
    sources: Sequence[str], samples: np.ndarray, held_out: np.ndarray, suspects: np.ndarray
) -> dict[str, dict[str, float]]:
    """Which sources the nearest training images are of, from their indices into `sources`, `(N,)` each.

    A source that the model has seen too often draws more samples to its images than its share of the training
    images says. For each: `training`: how many images; `share_training`, `share_samples`, `share_held_out`:
    its share of the training images and of the nearest ones; `suspects`: how many of those it has.
    """
    names = np.asarray(sources)
    nearest = {"samples": names[samples], "held_out": names[held_out]}
    return {
        name: {
            "training": int((names == name).sum()),
            "share_training": float((names == name).mean()),
            **{f"share_{of}": float((found == name).mean()) for of, found in nearest.items()},
            "suspects": int((names[suspects.astype(int)] == name).sum()),
        }
        for name in sorted(set(sources))
    }
