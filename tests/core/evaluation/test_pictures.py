"""Pictures for people: where the colours land, that nothing is hidden, and that writing is all or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.codes import SEGMENTS, segment_of
from dino_diffusion.errors import RadiographError
from dino_diffusion.pictures import contact_sheet, difference_map, overlay, save_png, to_uint8


def lungs() -> np.ndarray:
    labels = np.zeros((100, 120), np.uint8)
    labels[20:80, 10:50] = 1
    labels[20:80, 70:110] = 2
    return labels


GREY = np.full((100, 120), 0.5, np.float32)


def test_overlay_tints_each_lung_and_leaves_the_rest_grey() -> None:
    picture = overlay(GREY, lungs(), longest_side=None, legend=False).astype(int)
    assert picture.shape == (100, 120, 3)
    right, left, outside = picture[50, 30], picture[50, 90], picture[5, 60]
    assert right[2] > right[0] + 15  # bluish
    assert left[0] > left[2] + 15  # orange
    assert np.ptp(outside) == 0 and abs(outside[0] - 128) <= 1


def test_outline_is_stronger_than_the_fill() -> None:
    picture = overlay(GREY, lungs(), longest_side=None, legend=False).astype(int)
    colour = np.array(SEGMENTS[1].colour)
    assert np.abs(picture[50, 10] - colour).sum() < np.abs(picture[50, 30] - colour).sum() / 2


def test_overlay_keeps_the_aspect_and_its_legend_hides_no_pixel() -> None:
    bare = overlay(GREY, lungs(), longest_side=600, legend=False)
    lettered = overlay(GREY, lungs(), longest_side=600)
    assert bare.shape == (500, 600, 3)
    assert np.array_equal(lettered[:500], bare)
    assert lettered.shape[0] > 500


def test_overlay_draws_every_label_and_none() -> None:
    zones = np.zeros((100, 120), np.uint8)
    for index, label in enumerate((1, 2, 3, 4, 5, 6, 7, 8, 16, 17)):
        zones[:, index * 12 : index * 12 + 12] = label
    overlay(GREY, zones, names={16: "heart"})
    assert np.ptp(overlay(GREY, np.zeros_like(zones)), axis=2).max() == 0
    overlay(GREY, np.ones_like(zones))
    with pytest.raises(ValueError, match="do not lie on the grid"):
        overlay(GREY, zones[:50])


def test_label_colours_are_distinct() -> None:
    colours = np.array([segment.colour for segment in SEGMENTS.values()])
    gaps = np.abs(colours[:, None] - colours[None]).sum(axis=-1)
    lungs_only, zones = gaps[:2, :2], gaps[2:, 2:]
    assert lungs_only[0, 1] > 200
    assert zones[~np.eye(len(zones), dtype=bool)].min() > 60
    assert len({segment_of(value).colour for value in range(16, 40)}) == 24


def test_contact_sheet_holds_every_picture_in_its_place() -> None:
    pictures = [np.full((10, 10), value, np.float32) for value in (0.1, 0.5, 0.9)]
    sheet = contact_sheet(
        pictures, ["first", "second", "a caption much too long for its little tile"], tile=64
    )
    gap = 6
    assert sheet.shape == (gap + 2 * (64 + 14 + gap), gap + 2 * (64 + gap), 3)
    middles = [(38, 38), (38, 38 + 70), (38 + 84, 38)]
    assert [int(sheet[y, x, 0]) for y, x in middles] == [26, 128, 230]


def test_contact_sheet_fits_wide_and_coloured_pictures_and_has_a_title() -> None:
    colour = np.zeros((20, 80, 3), np.uint8)
    colour[..., 0] = 200
    plain = contact_sheet([colour, GREY], tile=80)
    titled = contact_sheet([colour, GREY], tile=80, title="Variants")
    assert plain[6 + 40, 6 + 40].tolist() == [200, 0, 0]
    assert plain[6 + 5, 6 + 40].tolist() == [0, 0, 0]
    assert titled.shape[0] > plain.shape[0]
    with pytest.raises(ValueError, match="no contact sheet"):
        contact_sheet([GREY], ["one", "two"])


def test_difference_map_is_red_where_brighter_and_blue_where_darker() -> None:
    after = GREY.copy()
    after[:30, :30] += 0.3
    after[-30:, -30:] -= 0.3
    picture = difference_map(GREY, after, longest_side=None).astype(int)
    assert picture[10, 10, 0] > picture[10, 10, 2] + 80
    assert picture[90, 110, 2] > picture[90, 110, 0] + 80
    assert np.ptp(picture[10, 110]) == 0
    assert np.ptp(difference_map(GREY, GREY, longest_side=None)[:100], axis=2).max() == 0
    with pytest.raises(ValueError, match="cannot be compared"):
        difference_map(GREY, after[:50])


def test_png_is_written_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    path = save_png(GREY, tmp_path / "new" / "grey.png")
    assert np.array_equal(np.asarray(Image.open(path)), to_uint8(GREY))
    (tmp_path / "other").touch()
    assert os.stat(path).st_mode == os.stat(tmp_path / "other").st_mode
    assert [file.name for file in path.parent.iterdir()] == ["grey.png"]


def test_a_place_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RadiographError, match="cannot be written"):
        save_png(GREY, tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(RadiographError, match="cannot be written"):
        save_png(GREY, tmp_path / "folder.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.png"]


def test_reference_is_a_white_line_on_its_outline() -> None:
    """Where the reference ends, whatever the labels are there."""
    reference = np.zeros((64, 64), np.uint8)
    reference[16:48, 16:48] = 1
    without = overlay(np.zeros((64, 64)), np.zeros((64, 64), np.uint8), 256, legend=False)
    drawn = overlay(np.zeros((64, 64)), np.zeros((64, 64), np.uint8), 256, legend=False, reference=reference)
    changed = np.argwhere((drawn != without).any(-1))
    assert (drawn[64, 128] == drawn[64, 128].max()).all() and drawn[64, 128].max() > 100, "white, on the edge"
    assert changed.min() >= 62 and changed.max() <= 194, "nothing outside of it"
    assert (drawn[128, 128] == without[128, 128]).all(), "not filled"
    with pytest.raises(ValueError, match="do not lie on the grid"):
        overlay(np.zeros((64, 64)), np.zeros((64, 64), np.uint8), reference=reference[:32])
