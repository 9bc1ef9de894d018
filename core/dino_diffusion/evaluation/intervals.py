"""How sure a figure over images is: bootstrap confidence intervals, and how well a score finds failures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap, mannwhitneyu, spearmanr

RESAMPLES = 2000

Interval = tuple[float, float]


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean, in the form `interval` takes."""
    return np.mean(values, axis=axis)


def fifth_percentile(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The 5th percentile, in the form `interval` takes."""
    return np.percentile(values, 5, axis=axis)


def interval(
    values: Sequence[float], statistic: Callable[..., np.ndarray] = mean, seed: int = 0
) -> Interval | None:
    """95 % percentile bootstrap of `statistic` over images (Efron 1979); None for fewer than two."""
    return _bootstrap((np.asarray(values, dtype=float),), statistic, seed)


@dataclass(frozen=True)
class FailureRanking:
    """How well an uncertainty, known without a mask, finds the images that a mask shows to be bad.

    `auroc`: the chance that an image with Dice below `threshold` is the more uncertain one of a pair; None
    with the `reason` where there are only good or only bad ones. `spearman`: rank correlation of
    uncertainty and Dice (-1 is best), None where one of them is constant.
    """

    threshold: float
    n: int
    n_below: int
    auroc: float | None
    auroc_ci: Interval | None
    spearman: float | None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def rank_failures(
    uncertainty: Sequence[float], dice: Sequence[float], threshold: float = 0.85, seed: int = 0
) -> FailureRanking:
    """AUROC of `uncertainty` for `dice` below `threshold`, one number an image each."""
    doubt, quality = np.asarray(uncertainty, dtype=float), np.asarray(dice, dtype=float)
    bad, good = doubt[quality < threshold], doubt[quality >= threshold]
    constant = len(doubt) < 2 or np.ptp(doubt) == 0 or np.ptp(quality) == 0
    spearman = None if constant else float(spearmanr(doubt, quality).statistic)
    counts = (threshold, len(doubt), len(bad))
    if not len(doubt):
        return FailureRanking(*counts, None, None, None, "No image comes with an uncertainty.")
    if not len(bad) or not len(good):
        side = "below" if not len(bad) else "at or above"
        return FailureRanking(*counts, None, None, spearman, f"No image has a Dice {side} {threshold}.")
    return FailureRanking(*counts, float(_auroc(bad, good)), _bootstrap((bad, good), _auroc, seed), spearman)


def _auroc(bad: np.ndarray, good: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mann-Whitney's U over the number of pairs; ties count half."""
    pairs = bad.shape[axis] * good.shape[axis]
    return mannwhitneyu(bad, good, axis=axis, method="asymptotic").statistic / pairs


def _bootstrap(samples: tuple[np.ndarray, ...], statistic: Callable[..., Any], seed: int) -> Interval | None:
    if min(map(len, samples)) < 2:
        return None
    with warnings.catch_warnings():
        # Of resamples that are all alike, which a small folder of equal values gives.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = bootstrap(
            samples,
            statistic,
            n_resamples=RESAMPLES,
            batch=100,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(found.low), float(found.high)
