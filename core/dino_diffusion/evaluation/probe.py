"""A classifier of real radiographs, to ask whether synthetic ones show what they were asked to show.

Logistic regression on features of frozen networks: with some hundred images it says more reliably than a
trained network whether pictures move toward a class. One feature network is the encoder that conditions the
denoiser and so flatters it; the other never saw a radiograph. Results are given for each apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from dino_diffusion.evaluation import EvaluationError

PENALTY = 0.01
"""Weight of the squared coefficients, on standardised features, a sample: chosen beforehand, not tuned."""

COMPONENTS = 64
"""Principal components kept: there are some hundred images, and 1,280 features of EfficientNet."""

FOLDS = 5


@dataclass(frozen=True)
class Probe:
    """`logits` = (features - mean) @ weights + bias, above 0 for the class."""

    mean: np.ndarray
    weights: np.ndarray
    bias: float

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray) -> Probe:
        """From `(N, D)` features and `(N,)` labels, true for the class; both classes weigh the same.

        Raises EvaluationError unless both classes are there.
        """
        labels = np.asarray(labels, dtype=bool)
        if features.ndim != 2 or len(features) != len(labels) or labels.all() or not labels.any():
            raise EvaluationError(
                f"A probe needs images of both classes, here are {int(labels.sum())} of the class among "
                f"{len(labels)}: give some of each."
            )
        mean = features.mean(0)
        _, scales, directions = np.linalg.svd(features - mean, full_matrices=False)
        kept = min(COMPONENTS, int((scales > 1e-8 * scales[0]).sum()))
        whiten = directions[:kept].T / scales[:kept] * np.sqrt(len(features))
        inputs = (features - mean) @ whiten
        sign = np.where(labels, 1.0, -1.0)
        share = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            weights, bias = parameters[:-1], parameters[-1]
            margin = sign * (inputs @ weights + bias)
            slope = -share * sign * expit(-margin)
            gradient = np.append(inputs.T @ slope + 2 * PENALTY * weights, slope.sum())
            return float((share * np.logaddexp(0, -margin)).sum() + PENALTY * weights @ weights), gradient

        found = minimize(loss, np.zeros(kept + 1), jac=True, method="L-BFGS-B").x
        return cls(mean, whiten @ found[:-1], float(found[-1]))

    def logits(self, features: np.ndarray) -> np.ndarray:
        """`(N, D)` to `(N,)`."""
        return (features - self.mean) @ self.weights + self.bias


def cross_validated(features: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Logits `(N,)` of every image by a probe that saw no image of its patient (five folds).

    Raises EvaluationError where a fold would lack a class.
    """
    labels = np.asarray(labels, dtype=bool)
    names, group = np.unique(np.asarray(patients), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[group] % FOLDS
    logits = np.empty(len(labels))
    for number in range(FOLDS):
        away = fold == number
        logits[away] = Probe.fit(features[~away], labels[~away]).logits(features[away])
    return logits


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often one of the class scores above one that is not; ties count half."""
    labels = np.asarray(labels, dtype=bool)
    inside, outside = int(labels.sum()), int((~labels).sum())
    if not inside or not outside:
        raise EvaluationError("An AUC needs images of both classes: give some of each.")
    return float((rankdata(scores)[labels].sum() - inside * (inside + 1) / 2) / (inside * outside))
