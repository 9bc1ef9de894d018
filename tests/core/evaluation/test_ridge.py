"""A linear probe finds what is linear, nothing where there is nothing, and never sees a patient it judges."""

from __future__ import annotations

import numpy as np
import pytest

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.probe import auc
from dino_diffusion.evaluation.ridge import cross_validated_ridge


def data(count: int, width: int, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.4
    features = rng.normal(size=(count, width)) * np.linspace(0.1, 10, width)
    features[:, 0] += 0.1 * signal * labels
    return features, labels


@pytest.mark.parametrize("width", [10, 300])
def test_a_small_direction_is_found_with_more_and_with_fewer_samples_than_features(width: int) -> None:
    features, labels = data(200, width, signal=8)
    scores = cross_validated_ridge(features, labels, [str(k) for k in range(200)])
    assert auc(labels, scores) > 0.85
    assert ((scores > 0) == labels).mean() > 0.75


def test_nothing_is_found_where_nothing_is() -> None:
    found = []
    for seed in range(5):
        features, labels = data(300, 20, signal=0, seed=seed)
        found.append(auc(labels, cross_validated_ridge(features, labels, [str(k) for k in range(300)])))
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_a_patient_is_not_recognised() -> None:
    """Ten pictures of each patient, alike among themselves, with a label that is the patient's by chance."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 10)
    features = rng.normal(size=(40, 60))[patients] + 0.05 * rng.normal(size=(400, 60))
    labels = (rng.permutation(40) < 20)[patients]
    assert auc(labels, cross_validated_ridge(features, labels, patients.astype(str))) < 0.7
    scattered = [str(number) for number in range(400)]
    assert auc(labels, cross_validated_ridge(features, labels, scattered)) > 0.95


def test_too_little_is_one_sentence() -> None:
    features, labels = data(20, 3, 1)
    with pytest.raises(EvaluationError, match="at least 10"):
        cross_validated_ridge(features, labels, ["one", "two"] * 10)
    with pytest.raises(EvaluationError, match="both classes"):
        cross_validated_ridge(features, np.ones(20), [str(k) for k in range(20)])
