"""Copies of training images are found; honest samples are not called copies."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.memorisation import evaluate_memorisation, nearest_neighbours


def normal(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16))


def test_nearest_neighbour_by_hand() -> None:
    training = np.array([[1.0, 0.0], [0.0, 2.0]])
    distances, indices = nearest_neighbours(np.array([[0.0, 5.0], [3.0, 0.0], [1.0, -1.0]]), training)
    assert indices.tolist() == [1, 0, 0]
    assert distances == pytest.approx([0, 0, 1 - np.sqrt(0.5)])


def test_neighbours_are_the_same_in_blocks() -> None:
    queries, training = normal(1500, 0), normal(50, 1)
    distances, indices = nearest_neighbours(queries, training)
    alone = [nearest_neighbours(query[None], training) for query in queries[1020:1030]]
    assert indices[1020:1030].tolist() == [int(index[0]) for _, index in alone]
    assert distances[1020:1030] == pytest.approx([float(distance[0]) for distance, _ in alone])


def test_copies_are_found_and_named() -> None:
    training = normal(300, 2)
    samples = np.concatenate([normal(8, 3), 2 * training[[7, 70]] + 1e-3])
    report = evaluate_memorisation(samples, normal(200, 4), training)
    assert report["share"] >= 0.2
    assert {(suspect["sample"], suspect["training"]) for suspect in report["suspects"]} >= {(8, 7), (9, 70)}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_sources_that_draw_the_samples_are_told() -> None:
    training = normal(100, 2)
    sources = ["small"] * 10 + ["large"] * 90
    copies = training[:5]
    report = evaluate_memorisation(copies, normal(200, 4), training, sources=sources)
    assert report["nearer_than_any"] == 5 and report["closest_sample"] < 1e-9 < report["closest_held_out"]
    small, large = report["by_source"]["small"], report["by_source"]["large"]
    assert (small["training"], small["share_training"], small["share_samples"]) == (10, 0.1, 1.0)
    assert (small["suspects"], large["suspects"], large["share_samples"]) == (5, 0, 0.0)
    assert small["share_held_out"] + large["share_held_out"] == pytest.approx(1)
    assert "by_source" not in evaluate_memorisation(copies, normal(200, 4), training)


def test_honest_samples_stay_near_the_expected_share() -> None:
    report = evaluate_memorisation(normal(1000, 5), normal(1000, 6), normal(500, 7), percentile=5)
    assert report["expected_share"] == pytest.approx(0.05)
    assert 0.02 < report["share"] < 0.09
    assert report["median_sample"] == pytest.approx(report["median_held_out"], rel=0.1)


def test_too_few_held_out_images_and_zero_vectors_are_one_sentence() -> None:
    with pytest.raises(EvaluationError, match="give at least 100"):
        evaluate_memorisation(normal(5, 0), normal(99, 1), normal(5, 2))
    with pytest.raises(EvaluationError, match="training features"):
        nearest_neighbours(normal(5, 0), np.zeros((3, 16)))
