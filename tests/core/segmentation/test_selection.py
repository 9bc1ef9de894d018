"""Clicks: take, split, give back, undo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.segmentation.merge_tree import agglomerate
from dino_diffusion.segmentation.regions import Regions
from dino_diffusion.segmentation.selection import Selection
from dino_diffusion.segmentation.superpixels import neighbours

HEIGHT, WIDTH = 8, 16
COARSE, FINE = 0.0, 1.0


@pytest.fixture(scope="module")
def regions() -> Regions:
    """Four quarters of 32 pixels, each of two halves that differ a little, on a grid twice as fine."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    quarter = rows // 4 * 2 + columns // 8
    half = columns // 4 % 2
    values = np.stack([10.0 * (quarter == k) for k in range(4)] + [half + 0.01 * rows], axis=-1)
    pieces = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    tree = agglomerate(values.reshape(-1, 5), np.ones(HEIGHT * WIDTH), neighbours(pieces))
    return Regions(pieces, tree, (2 * HEIGHT, 2 * WIDTH))


def area(selection: Selection) -> int:
    return int(selection.mask.sum()) // 4


def test_a_click_takes_the_region_under_it(regions: Regions) -> None:
    empty = Selection.empty(regions)
    assert area(empty) == 0
    taken = empty.click(1, 1, COARSE)
    assert (taken.mask == regions.at(1, 1, COARSE)).all() and area(taken) == 32
    assert area(empty) == 0  # as it was


def test_a_click_elsewhere_adds(regions: Regions) -> None:
    both = Selection.empty(regions).click(1, 1, COARSE).click(15, 31, COARSE)
    assert (both.mask == regions.at(1, 1, COARSE) | regions.at(15, 31, COARSE)).all()


def test_a_click_on_the_unwanted_part_splits_it_off(regions: Regions) -> None:
    split = Selection.empty(regions).click(1, 1, COARSE).click(1, 14, COARSE)
    kept = np.zeros((2 * HEIGHT, 2 * WIDTH), bool)
    kept[:8, :8] = True
    assert (split.mask == kept).all()


def test_a_split_keeps_every_part_that_was_clicked_for(regions: Regions) -> None:
    selection = Selection.empty(regions).click(1, 1, COARSE).click(1, 14, COARSE)
    again = selection.click(1, 14, COARSE)  # wanted after all
    assert area(again) == 32
    less = again.click(7, 8, COARSE)
    assert less.mask[1, 1] and less.mask[1, 14] and not less.mask[7, 8]


def test_taking_stops_before_what_was_given_back(regions: Regions) -> None:
    selection = Selection.empty(regions).click(1, 1, COARSE).click(1, 14, COARSE)
    more = selection.click(7, 8, COARSE)
    assert more.mask[7, 8] and not more.mask[1, 14] and area(more) > 16


def test_a_second_click_on_the_same_spot_takes_the_region_back(regions: Regions) -> None:
    assert area(Selection.empty(regions).click(1, 1, COARSE).click(1, 1, COARSE)) == 0


def test_granularity_bounds_what_a_click_changes(regions: Regions) -> None:
    assert area(Selection.empty(regions).click(1, 1, FINE)) < area(
        Selection.empty(regions).click(1, 1, COARSE)
    )


def test_a_fine_click_gives_back_little(regions: Regions) -> None:
    coarse = Selection.empty(regions).click(1, 1, COARSE)
    assert area(coarse.click(1, 14, COARSE)) < area(coarse.click(1, 14, FINE)) < area(coarse)


def test_undo_goes_back_click_by_click_and_ends_at_the_start(regions: Regions) -> None:
    empty = Selection.empty(regions)
    first = empty.click(1, 1)
    second = first.click(9, 9)
    assert second.undo() is first and second.undo().undo() is empty and empty.undo() is empty


def test_a_pixel_outside_is_one_sentence(regions: Regions) -> None:
    with pytest.raises(ConfigurationError, match="outside the radiograph: rows end at 15"):
        Selection.empty(regions).click(16, 0)
    with pytest.raises(ConfigurationError, match="between 0"):
        Selection.empty(regions).click(0, 0, 1.5)


CLICKS = st.lists(
    st.tuples(st.integers(0, 2 * HEIGHT - 1), st.integers(0, 2 * WIDTH - 1), st.floats(0, 1)), max_size=12
)


@settings(max_examples=50, deadline=None)
@given(CLICKS)
def test_every_click_flips_its_pixel_and_none_is_forgotten(
    regions: Regions, clicks: list[tuple[int, int, float]]
) -> None:
    selection = Selection.empty(regions)
    for row, column, granularity in clicks:
        before, preview = selection.mask, selection.preview(row, column, granularity)
        selection = selection.click(row, column, granularity)
        assert (selection.mask ^ before == preview).all() and preview[row, column]
        assert all(selection.taken[leaf] for leaf in selection.wanted)
        assert not any(selection.taken[leaf] for leaf in selection.unwanted)
