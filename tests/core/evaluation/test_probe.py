"""The probe: it finds a direction that is there, balances classes, and never sees a test patient."""

from __future__ import annotations

import numpy as np
import pytest

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.probe import Probe, auc, cross_validated


def data(count: int = 300, width: int = 100, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian features on very different scales; the class is `shift` deviations away in three."""
    rng = np.random.default_rng(0)
    labels = rng.random(count) < 0.3
    features = rng.standard_normal((count, width))
    features[:, :3] += shift * labels[:, None]
    return features * np.geomspace(10, 1, width) + 5, labels


def test_a_probe_tells_unseen_images_apart() -> None:
    features, labels = data()
    probe = Probe.fit(features[:200], labels[:200])
    assert auc(labels[200:], probe.logits(features[200:])) > 0.85


def test_both_classes_weigh_the_same() -> None:
    features, labels = data(shift=0)
    assert abs(Probe.fit(features, labels).logits(features).mean()) < 1


def test_folds_keep_patients_together() -> None:
    """Labels that follow nothing but the patient cannot be predicted for an unseen patient."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), 5)
    looks = rng.standard_normal((40, 80))[patients] + 0.01 * rng.standard_normal((200, 80))
    labels = (rng.random(40) < 0.5)[patients]
    logits = cross_validated(looks, labels, [str(patient) for patient in patients])
    assert 0.2 < auc(labels, logits) < 0.8
    alone = cross_validated(looks, labels, [str(number) for number in range(200)])
    assert auc(labels, alone) > 0.95


def test_auc_counts_pairs() -> None:
    labels = np.array([True, True, False, False])
    assert auc(labels, np.array([3.0, 2.0, 1.0, 0.0])) == 1
    assert auc(labels, np.array([1.0, 1.0, 1.0, 1.0])) == 0.5
    assert auc(labels, np.array([2.0, 0.0, 1.0, 1.0])) == 0.5


def test_one_class_alone_is_refused() -> None:
    features, _ = data(20)
    with pytest.raises(EvaluationError, match="both classes"):
        Probe.fit(features, np.ones(20, bool))
    with pytest.raises(EvaluationError, match="both classes"):
        auc(np.zeros(3, bool), np.zeros(3))
