"""Dice and surface distance: known shifts, hand-computed cases, empty lungs, other structures."""

from __future__ import annotations

import numpy as np
import pytest

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.overlap import mean_dice, score_pair, structures_of
from tests.core.evaluation.lungs import two_lungs


def test_identical_masks_agree_perfectly() -> None:
    score = score_pair(two_lungs(), two_lungs(), (0.5, 0.5))
    assert score.dice == {"right": 1, "left": 1}
    assert (score.mean, score.hd95, score.hd95_mm) == (1, 0, 0)


def test_known_shift_gives_the_dice_and_distance_computed_by_hand() -> None:
    """Moved by 3 of 30 rows, 27 are shared: Dice 0.9; the outlines are 3 pixels apart, the diagonal 100."""
    score = score_pair(two_lungs(shift=3), two_lungs(), (0.5, 0.5))
    assert score.dice == pytest.approx({"right": 0.9, "left": 0.9})
    assert score.hd95 == pytest.approx(3.0)
    assert score.hd95_mm == pytest.approx(1.5)


def test_spacing_of_rows_and_columns_is_told_apart() -> None:
    score = score_pair(two_lungs(shift=3), two_lungs(), (2.0, 0.5))
    sideways = score_pair(np.roll(two_lungs(), 3, axis=1), two_lungs(), (2.0, 0.5))
    assert score.hd95_mm is not None and sideways.hd95_mm is not None
    assert sideways.hd95_mm == pytest.approx(1.5)
    assert score.hd95_mm > sideways.hd95_mm


def test_distance_grows_with_the_shift() -> None:
    distances = [score_pair(two_lungs(shift=shift), two_lungs(), None).hd95 for shift in range(6)]
    assert distances == sorted(distances) and distances[-1] > distances[0]


def test_swapped_lungs_score_nothing() -> None:
    swapped = np.array([0, 2, 1], np.uint8)[two_lungs()]
    assert score_pair(swapped, two_lungs(), None).mean == 0


def test_zones_count_as_their_lung() -> None:
    zones = two_lungs()
    zones[10:20][zones[10:20] == 1] = 3
    zones[20:30][zones[20:30] == 1] = 4
    zones[30:40][zones[30:40] == 2] = 8
    zones[0, 0] = 16  # a learnt segment is no lung
    assert score_pair(zones, two_lungs(), None).mean == 1


def test_empty_mask_conventions() -> None:
    nothing = np.zeros((60, 80), np.uint8)
    both = score_pair(nothing, nothing, None)
    assert (both.mean, both.hd95, both.hd95_mm) == (1, 0, None)
    missed = score_pair(nothing, two_lungs(), (2.0, 2.0))
    assert (missed.mean, missed.hd95, missed.hd95_mm) == (0, pytest.approx(100), pytest.approx(200))
    one_lung = np.where(two_lungs() == 1, 1, 0).astype(np.uint8)
    half = score_pair(one_lung, two_lungs(), None)
    assert (half.dice, half.hd95) == ({"right": 1, "left": 0}, pytest.approx(50))


def test_mask_of_another_size_and_unknown_labels_are_refused() -> None:
    with pytest.raises(EvaluationError, match="80 x 50 pixels and the labelled image 80 x 60"):
        score_pair(two_lungs(), np.zeros((50, 80), np.uint8), None)
    with pytest.raises(EvaluationError, match="label 12"):
        score_pair(two_lungs(), two_lungs() * np.uint8(12), None)


def test_other_structures_are_scored_by_their_own_values() -> None:
    """A heart that is drawn exactly, a tube that is missed; the lungs beside them count as background."""
    reference = two_lungs()
    reference[42:50, 30:45] = 16
    predicted = reference.copy()
    reference[0:10, 40] = 90
    scores = score_pair(predicted, reference, structures=structures_of([90, 16]))
    assert scores.dice == {"16": 1, "90": 0}
    assert scores.mean == 0.5
    assert scores.hd95 == pytest.approx(50)


def test_mean_dice_is_that_of_the_scores() -> None:
    assert mean_dice(two_lungs(shift=3), two_lungs()) == pytest.approx(0.9)
