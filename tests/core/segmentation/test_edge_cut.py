"""The minimum cut: against every possible outline of a tiny picture, and on what an edge is."""

import itertools

import numpy as np
import pytest
import torch

from dino_diffusion.segmentation.cut_costs import STEPS, in_edges
from dino_diffusion.segmentation.edge_cut import edge_cut, softened


def cost(mask: np.ndarray, probability: np.ndarray, picture: np.ndarray, pull: float, outside: bool) -> float:
    """What the cut minimises, written down without any network."""
    odds = np.log(probability) - np.log(1 - probability)
    picture = in_edges(torch.from_numpy(picture)[None])[0].numpy()
    total = float(np.abs(odds)[mask != (odds > 0)].sum())
    for row, column in np.ndindex(*mask.shape):
        for (down, right), weight in STEPS:
            other = row + down, column + right
            if not (0 <= other[0] < mask.shape[0] and 0 <= other[1] < mask.shape[1]):
                continue
            if mask[row, column] == mask[other]:
                continue
            step = picture[other] - picture[row, column]
            outward = step if mask[row, column] else -step
            edge = max(outward, 0) if outside else abs(step)
            total += pull * weight * float(np.exp(-edge))
    return total


@pytest.mark.parametrize("outside", [True, False])
def test_no_outline_of_all_is_cheaper(outside: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        probability, picture = rng.uniform(0.05, 0.95, (3, 4)), rng.uniform(0, 1, (3, 4))
        found = cost(edge_cut(probability, picture, 0.7, outside), probability, picture, 0.7, outside)
        masks = (np.reshape(bits, (3, 4)) for bits in itertools.product((False, True), repeat=12))
        assert found <= min(cost(mask, probability, picture, 0.7, outside) for mask in masks) + 0.05


def disc(radius: float) -> np.ndarray:
    """`(48, 48)` bool."""
    y, x = np.mgrid[:48, :48] - 23.5
    return np.hypot(x, y) < radius


def test_the_outline_goes_to_the_edge_of_the_right_direction() -> None:
    rng = np.random.default_rng(0)
    # dark disc of 14 in bright surroundings, with a brighter core of 9: both outlines are edges
    picture = np.where(disc(9), 0.6, np.where(disc(14), 0.2, 0.9)) + rng.normal(0, 0.01, (48, 48))
    probability = softened(disc(12), 4.0).clip(0.02, 0.98)
    assert np.array_equal(edge_cut(probability, picture, brighter_outside=True), disc(14))
    assert np.array_equal(edge_cut(probability, 1 - picture, brighter_outside=True), disc(9))
    assert np.array_equal(edge_cut(probability, 1 - picture), edge_cut(probability, picture))


def test_scale_and_offset_of_grey_values_do_not_matter_and_without_a_pull_nothing_moves() -> None:
    rng = np.random.default_rng(1)
    picture, probability = rng.uniform(0, 1, (20, 20)), rng.uniform(0, 1, (20, 20))
    assert np.array_equal(edge_cut(probability, picture), edge_cut(probability, 300 * picture - 40))
    assert np.array_equal(edge_cut(probability, picture, pull=0), probability > 0.5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything_stay(value: float) -> None:
    picture = np.random.default_rng(2).uniform(0, 1, (12, 9))
    assert (edge_cut(np.full((12, 9), value), picture) == bool(value)).all()
