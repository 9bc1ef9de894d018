"""AUCs of several trainings with confidence intervals that count test patients and trainings as chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dino_diffusion.evaluation.intervals import RESAMPLES, Interval
from dino_diffusion.evaluation.probe import auc


def summarise(
    scores: Mapping[str, np.ndarray],
    labels: np.ndarray,
    patients: Sequence[str],
    references: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """A dictionary a row of `scores` ((trainings, N) each), ready for JSON.

    `name`; `auc`: mean over the trainings; `auc_ci`; `aucs`: each training's; `gain` and `gain_ci`: by the
    name of each reference, the paired difference to it.
    Intervals: 95 % percentile bootstrap. A resample draws test patients (images, where a patient is "") and
    trainings with replacement, the same for every row, so that differences are paired.
    Raises EvaluationError for test images of one class.
    """
    labels = np.asarray(labels, dtype=bool)
    rng = np.random.default_rng(seed)
    weights = patient_weights(patients, resamples, rng)
    drawn: dict[int, np.ndarray] = {}
    chance, means, found = {}, {}, []
    for name, rows in scores.items():
        trainings = len(rows)
        if trainings not in drawn:
            drawn[trainings] = rng.multinomial(trainings, np.full(trainings, 1 / trainings), resamples)
        each = np.stack([weighted_auc(row, labels, weights) for row in rows], axis=1)
        chance[name] = (each * drawn[trainings]).sum(1) / trainings
        aucs = [auc(labels, row) for row in rows]
        means[name] = float(np.mean(aucs))
        found.append({"name": name, "auc": means[name], "auc_ci": _interval(chance[name]), "aucs": aucs})
    for row in found:
        name = str(row["name"])
        others = [other for other in references if other != name and other in scores]
        row["gain"] = {other: means[name] - means[other] for other in others}
        row["gain_ci"] = {other: _interval(chance[name] - chance[other]) for other in others}
    return found


def patient_weights(patients: Sequence[str], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image counts, `(resamples, N)`: patients are drawn, each with all images."""
    names = [patient or f"\0{number}" for number, patient in enumerate(patients)]
    _, group = np.unique(names, return_inverse=True)
    count = int(group.max()) + 1
    return rng.multinomial(count, np.full(count, 1 / count), resamples)[:, group]


def weighted_auc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`probe.auc` with image n counted `weights[b, n]` times, `(B,)`; NaN where a class is not drawn."""
    order = np.argsort(scores, kind="stable")
    # Images of equal score count half against each other.
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    inside = np.add.reduceat(np.where(labels, weights, 0)[:, order], starts, axis=1).astype(float)
    outside = np.add.reduceat(np.where(labels, 0, weights)[:, order], starts, axis=1).astype(float)
    below = np.cumsum(outside, axis=1) - outside / 2
    pairs = inside.sum(1) * outside.sum(1)
    return np.divide((inside * below).sum(1), pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _interval(values: np.ndarray) -> Interval | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)
