"""Bootstrap intervals and the AUROC of an uncertainty, against numbers that follow by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dino_diffusion.evaluation.intervals import fifth_percentile, interval, rank_failures


def test_interval_of_a_mean_is_that_of_theory() -> None:
    """Mean of n numbers of deviation s: 1.96 s / sqrt(n) to either side."""
    values = np.random.default_rng(1).normal(0.8, 0.1, 400)
    low, high = interval(values.tolist())
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.002)
    assert high == pytest.approx(values.mean() + half, abs=0.002)


def test_interval_is_the_same_every_time_and_another_with_another_seed() -> None:
    values = np.random.default_rng(1).uniform(size=30).tolist()
    assert interval(values, fifth_percentile) == interval(values, fifth_percentile)
    assert interval(values) != interval(values, seed=1)


def test_interval_of_one_image_and_of_equal_images() -> None:
    assert interval([0.8]) is None
    assert interval([0.8, 0.8, 0.8]) == pytest.approx((0.8, 0.8))


def test_auroc_counts_ordered_pairs() -> None:
    """Bad images 0.9 and 0.4, good ones 0.1, 0.4 and 0.5: 2 x 3 pairs, right in 4, one tie, wrong in 1."""
    found = rank_failures([0.9, 0.4, 0.1, 0.4, 0.5], [0.5, 0.6, 0.9, 0.9, 0.9])
    assert found.auroc == pytest.approx(4.5 / 6)
    assert found.auroc_ci is not None and found.auroc_ci[0] <= 4.5 / 6 <= found.auroc_ci[1]
    assert (found.n, found.n_below, found.reason) == (5, 2, None)


@pytest.mark.parametrize(
    ("dice", "reason"), [([0.9, 0.95], "below 0.85"), ([0.1, 0.2], "at or above 0.85"), ([], "uncertainty")]
)
def test_auroc_that_cannot_be_said_comes_with_a_reason(dice: list[float], reason: str) -> None:
    found = rank_failures([0.1, 0.2][: len(dice)], dice)
    assert found.auroc is None and found.auroc_ci is None
    assert found.reason is not None and reason in found.reason


def test_constant_uncertainty_finds_nothing() -> None:
    found = rank_failures([0.3, 0.3, 0.3, 0.3], [0.5, 0.6, 0.9, 0.95])
    assert (found.auroc, found.spearman) == (0.5, None)
