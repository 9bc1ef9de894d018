"""Zones of lungs that are known as probabilities alone."""

from __future__ import annotations

import math

import torch

from dino_diffusion.segmentation.known_regions import REGIONS, known_regions
from dino_diffusion.segmentation.zones import lung_zones

SIDE = 48


def lungs(turned: float = 0.0, probability: float = 0.9) -> torch.Tensor:
    """Two upright boxes, turned about the picture's middle by so many degrees: `(1, 3, SIDE, SIDE)`."""
    centres = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    cos, sin = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    across, down = x * cos + y * sin, y * cos - x * sin
    found = torch.zeros(1, 3, SIDE, SIDE)
    for number, middle in ((1, -0.2), (2, 0.2)):
        found[0, number] = probability * ((across - middle).abs() < 0.1) * (down.abs() < 0.3)
    found[:, 0] = 1 - found[:, 1:].sum(1)
    return found


def test_zones_are_those_of_the_labels_and_sum_to_the_lungs() -> None:
    known = lungs()
    found = known_regions(known)
    assert found.shape == (1, REGIONS, SIDE, SIDE)
    torch.testing.assert_close(found[:, 1:4].sum(1), known[:, 1])
    torch.testing.assert_close(found[:, 4:].sum(1), known[:, 2])
    labels = torch.from_numpy(lung_zones(known[0].argmax(0).numpy()))
    for zone in range(3, 9):
        ours, theirs = found[0, zone - 2] > 0.5, labels == zone
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.88, "more than a row of nine off"


def test_in_a_turned_picture_zones_are_turned() -> None:
    found = known_regions(lungs(turned=20))
    for lung in (1, 4):
        areas = (found[0, lung : lung + 3] > 0.5).sum((1, 2))
        assert areas.min() > 0.85 * areas.max(), "thirds of a turned lung are alike"


def test_a_stray_cell_moves_no_zone() -> None:
    known = lungs()
    known[0, :, 0, 10] = torch.tensor([0.1, 0.9, 0.0])
    moved = known_regions(known)[:, :, 1:] - known_regions(lungs())[:, :, 1:]
    assert (moved.abs() > 0.5).float().mean() < 0.02


def test_where_no_lung_is_found_nothing_is_known() -> None:
    found = known_regions(lungs(probability=0.0))
    assert torch.equal(found[:, 0], torch.ones(1, SIDE, SIDE)) and not found[:, 1:].any()
