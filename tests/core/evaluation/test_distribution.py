"""FID, KID, precision and recall: hand-computed cases, invariants, and agreement with MONAI."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.metrics import FIDMetric

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.distribution import (
    evaluate_generation,
    frechet_distance,
    kernel_difference,
    kernel_distance,
    precision_recall,
)


def normal(count: int, seed: int, dimensions: int = 8, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (count, dimensions))


def test_fid_of_identical_sets_is_zero() -> None:
    for features in (normal(200, 0), normal(20, 0, dimensions=64)):
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_fid_of_a_moved_set_is_the_squared_move() -> None:
    features = normal(100, 1)
    assert frechet_distance(features, features + 0.5) == pytest.approx(8 * 0.25)


def test_fid_by_hand_in_one_dimension() -> None:
    """Means 0 and 3, variances 2 and 8: 9 + (sqrt 2 - sqrt 8)^2 = 11."""
    a, b = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
    assert frechet_distance(a, b) == pytest.approx(9 + 2 + 8 - 2 * 4)


@pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")
def test_fid_agrees_with_monai_where_images_outnumber_features() -> None:
    a, b = normal(150, 2), normal(100, 3, mean=0.3, scale=1.5)
    expected = float(FIDMetric()(torch.from_numpy(b), torch.from_numpy(a)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_fid_with_fewer_images_than_features_equals_that_of_their_subspace() -> None:
    """Twenty features that live in three dimensions: rotating them into 64 changes no distance."""
    a, b = normal(20, 4, dimensions=3), normal(15, 5, dimensions=3, mean=1.0)
    rotation, _ = np.linalg.qr(normal(64, 6, dimensions=64))
    assert frechet_distance(a @ rotation[:3], b @ rotation[:3]) == pytest.approx(frechet_distance(a, b))


def test_fid_rises_with_the_shift() -> None:
    real = normal(300, 7)
    distances = [frechet_distance(real, normal(300, 8, mean=mean)) for mean in (0, 0.2, 0.5, 1.0)]
    assert distances == sorted(distances)


def test_kid_by_hand() -> None:
    """One feature, kernel (xy + 1)^3; of the 12 ordered pairs within a, 2 give 8, 2 give 125 and 8 give 27.

    All pairs with a zero give 1.
    """
    a, b = np.array([[1.0], [1.0], [2.0], [2.0]]), np.zeros((4, 1))
    assert kernel_distance(a, b).value == pytest.approx((2 * 8 + 2 * 125 + 8 * 27) / 12 + 1 - 2)
    with pytest.raises(EvaluationError, match="too few for a KID"):
        kernel_distance(a, b[:3])


def test_kid_is_unbiased_around_zero_for_one_distribution() -> None:
    """The mean of many small-sample estimates lies within its own error of zero; a biased one would not."""
    values = [kernel_distance(normal(20, 2 * i), normal(20, 2 * i + 1), subsets=2).value for i in range(200)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0 < max(values)


def test_kid_interval_covers_the_truth_and_excludes_zero_for_another_distribution() -> None:
    same = kernel_distance(normal(300, 10), normal(300, 11))
    other = kernel_distance(normal(300, 10), normal(300, 12, mean=0.5))
    assert same.low < 0 < same.high
    assert other.low > 0
    assert other.low < other.value < other.high


def test_kid_interval_is_as_wide_as_the_spread_of_repeated_experiments() -> None:
    results = [kernel_distance(normal(80, i), normal(80, 1000 + i, mean=0.5)) for i in range(60)]
    spread = np.std([result.value for result in results])
    claimed = np.mean([result.high - result.low for result in results]) / (2 * 1.96)
    assert claimed == pytest.approx(spread, rel=0.35)


def test_difference_of_pairs_is_that_of_both_kids_and_surer_than_either() -> None:
    real, a = normal(80, 20), normal(40, 21, mean=0.5)
    b = a + normal(40, 22, scale=0.05)
    found = kernel_difference(real, a, b)
    assert found.value == pytest.approx(kernel_distance(real, a).value - kernel_distance(real, b).value)
    alone = kernel_distance(real, a)
    assert found.high - found.low < 0.3 * (alone.high - alone.low)
    same = kernel_difference(real, a, a)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = kernel_difference(real, a + 0.5, a)
    assert worse.low > 0
    with pytest.raises(EvaluationError, match="no pairs"):
        kernel_difference(real, a, b[:-1])


def test_kid_works_in_blocks() -> None:
    a, b = normal(1500, 13, dimensions=2), normal(1100, 14, dimensions=2, mean=1.0)
    kernel = lambda x, y: (x @ y.T / 2 + 1) ** 3  # noqa: E731
    n, m = len(a), len(b)
    within = (kernel(a, a).sum() - np.trace(kernel(a, a))) / (n * (n - 1))
    within += (kernel(b, b).sum() - np.trace(kernel(b, b))) / (m * (m - 1))
    assert kernel_distance(a, b, subsets=3).value == pytest.approx(within - 2 * kernel(a, b).mean())


def test_precision_and_recall_by_hand() -> None:
    """Reals at 0, 1, 2, 3 with k=1 have balls of radius 1; of 2.5 and 9 one is inside: precision 1/2.

    The synthetic balls have radius 6.5 and hold every real image: recall 1.
    """
    real, synthetic = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[2.5], [9.0]])
    assert precision_recall(real, synthetic, k=1) == (0.5, 1.0)


def test_collapsed_samples_are_precise_and_recall_nothing() -> None:
    real = normal(200, 15)
    collapsed = real[:1] + normal(200, 16, scale=1e-3)
    precision, recall = precision_recall(real, collapsed)
    assert precision == 1
    assert recall <= 0.01


def test_far_samples_have_neither_and_equal_ones_both() -> None:
    real = normal(200, 17)
    assert precision_recall(real, normal(200, 18, mean=50.0)) == (0, 0)
    assert precision_recall(real, real) == (1, 1)


def test_report_is_json_and_its_floor_has_equal_n() -> None:
    report = evaluate_generation(normal(200, 19), normal(150, 20), net="test")
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (report["n_real"], report["n_synthetic"], report["n_equal"], report["dimensions"]) == (
        200,
        150,
        100,
        8,
    )
    assert report["net"] == "test"
    assert report["fid_over_floor"] == pytest.approx(1, abs=0.5)
    assert report["kid_ci"][0] < 0 < report["kid_ci"][1]
    assert report["precision"] == pytest.approx(report["precision_real"], abs=0.15)
    assert report["recall"] == pytest.approx(report["recall_real"], abs=0.15)


def test_report_tells_a_bad_set_from_a_good_one_and_replays() -> None:
    real = normal(200, 21)
    bad = evaluate_generation(real, normal(100, 22, mean=1.0), net="test")
    assert bad["fid_over_floor"] > 5
    assert bad["kid_ci"][0] > 0
    assert bad == evaluate_generation(real, normal(100, 22, mean=1.0), net="test")


def test_unusable_features_are_one_sentence() -> None:
    with pytest.raises(EvaluationError, match="12 real and 30 synthetic images are too few"):
        evaluate_generation(normal(12, 0), normal(30, 1), net="test")
    with pytest.raises(EvaluationError, match="same network"):
        evaluate_generation(normal(40, 0), normal(30, 1, dimensions=9), net="test")
    with pytest.raises(EvaluationError, match="not finite vectors"):
        evaluate_generation(np.full((40, 8), np.nan), normal(30, 1), net="test")
