"""A linear probe by ridge regression, as wide as its features are, with the penalty chosen within the folds.

`probe.Probe` keeps 64 principal components, which is fair to one network; beside whitened features, whose
directions all weigh the same, a probe has to see all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dino_diffusion.evaluation import EvaluationError

FOLDS = 5
PENALTIES = 10.0 ** np.arange(-3, 3)
"""Of the squared weights a sample, on standardised features, whose variances are 1."""


def cross_validated_ridge(features: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Scores `(N,)`, above 0 for the class, by probes that saw no sample of the same patient (five folds).

    Args:
        features: `(N, D)`.
        labels: `(N,)`, true for the class.
        patients: one a sample; the penalty is chosen on a fifth of those that a fold trains on.

    Raises:
        EvaluationError: fewer patients than folds, or one class alone.
    """
    labels = np.asarray(labels, dtype=bool)
    names, group = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2 * FOLDS or labels.all() or not labels.any():
        raise EvaluationError(
            f"A probe needs both classes and at least {2 * FOLDS} patients, here are {len(names)} with "
            f"{int(labels.sum())} of {len(labels)} samples of the class: give more."
        )
    fold = np.random.default_rng(0).permutation(len(names))[group] % FOLDS
    signs = np.where(labels, 1.0, -1.0)
    scores = np.empty(len(labels))
    for number in range(FOLDS):
        away, inner = fold == number, fold == (number + 1) % FOLDS
        train = ~(away | inner)
        errors = [
            float(np.square(found - signs[inner]).mean())
            for found in _fits(features[train], signs[train], features[inner])
        ]
        best = int(np.argmin(errors))
        scores[away] = list(_fits(features[~away], signs[~away], features[away]))[best]
    return scores


def _fits(features: np.ndarray, targets: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Predictions for `others`, by each of the penalties."""
    mean, spread = features.mean(0), features.std(0).clip(min=1e-6)
    inputs, queries = (features - mean) / spread, (others - mean) / spread
    bias = targets.mean()
    tall = len(inputs) >= inputs.shape[1]
    # The smaller of both Gram matrices has the same eigenvalues.
    values, vectors = np.linalg.eigh(inputs.T @ inputs if tall else inputs @ inputs.T)
    image = vectors.T @ (inputs.T @ (targets - bias) if tall else targets - bias)
    reading = (queries if tall else queries @ inputs.T) @ vectors
    for penalty in PENALTIES:
        yield reading @ (image / (values.clip(min=0) + penalty * len(inputs))) + bias
