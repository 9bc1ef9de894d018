"""The model's view and the stored values: there and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.grey import LinearGrey, TableGrey
from dino_diffusion.files.grid import Grid
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.view import GreyScale, SquareView, resize

from .phantom import chest, dicom, lungs

EVERYWHERE = np.ones((96, 80), bool)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_linear_grey_is_exact_there_and_back(dtype: str, inverted: bool) -> None:
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1).astype(dtype)
    grey = LinearGrey(float(limits.min), float(limits.max), inverted)
    assert np.array_equal(grey.stored(grey.shown(values), values.dtype), values)


@pytest.mark.parametrize("falling", [False, True])
def test_table_grey_returns_the_edge_of_a_window_that_clips(falling: bool) -> None:
    table = np.clip((np.arange(100) - 20) / 50, 0, 1).astype(np.float32)
    grey = TableGrey(1 - table if falling else table, first=-50)
    values = np.arange(-50, 50).astype(np.int16)
    back = grey.stored(grey.shown(values), values.dtype)
    assert np.array_equal(back, np.clip(values, -30, 20))


@pytest.mark.parametrize("photometry", ["MONOCHROME1", "MONOCHROME2"])
def test_an_edit_touches_the_mask_only_and_stays_in_the_window(tmp_path: Path, photometry: str) -> None:
    window = {"RescaleSlope": 1, "RescaleIntercept": 100, "WindowCenter": 2100, "WindowWidth": 1001}
    dicom(tmp_path / "a.dcm", chest(), PhotometricInterpretation=photometry, **window)
    radiograph, where = Radiograph.read(tmp_path / "a.dcm"), lungs() > 0
    pixels = np.random.default_rng(1).random(radiograph.shape).astype(np.float32)
    edited = radiograph.to_stored(pixels, where)
    assert np.array_equal(edited[~where], radiograph.stored[~where])
    assert edited[where].min() >= 1499
    assert edited[where].max() <= 2501
    assert np.abs(radiograph.grey.shown(edited)[where] - pixels[where]).max() < 1 / 1000


def test_pixels_shown_as_before_keep_their_stored_value(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", chest(), WindowCenter=2000, WindowWidth=200)
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    assert np.array_equal(radiograph.to_stored(radiograph.pixels, EVERYWHERE), radiograph.stored)


def test_pixels_of_another_shape_are_refused() -> None:
    radiograph = Radiograph.from_array(chest())
    with pytest.raises(RadiographError, match="do not lie on its grid"):
        radiograph.to_stored(np.zeros((10, 10), np.float32), EVERYWHERE)


@pytest.mark.parametrize("shape", [(96, 80), (80, 96), (97, 64)])
def test_the_view_at_the_own_size_inverts_exactly(shape: tuple[int, int]) -> None:
    """No resampling at size max(H, W): what the grey scale did not clip comes back."""
    radiograph = Radiograph.from_array(chest(*shape))
    view = radiograph.model_view(max(shape))
    back = view.grey_to_source(view.pixels)
    scale = GreyScale.of(radiograph.pixels)
    unclipped = (scale.apply(radiograph.pixels) > 0) & (scale.apply(radiograph.pixels) < 1)
    assert back.shape == shape
    assert unclipped.mean() > 0.97
    assert np.abs(back - radiograph.pixels)[unclipped].max() < 1e-5


@pytest.mark.parametrize("shape", [(384, 512), (600, 500)])
def test_a_smooth_picture_survives_the_small_view(shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    smooth = (0.5 + 0.3 * np.sin(rows / 90) * np.cos(columns / 70)).astype(np.float32)
    view = Radiograph.from_array(smooth).model_view(256)
    assert view.pixels.shape == (1, 1, 256, 256)
    inside = (slice(8, -8), slice(8, -8))
    assert np.abs(view.grey_to_source(view.pixels) - smooth)[inside].max() < 0.02


def test_a_mask_keeps_its_place_through_the_view() -> None:
    """The corner of a box, to half a view pixel: half-pixel shifts are the classical mistake."""
    mask = np.zeros((500, 300), np.float32)
    mask[100:300, 40:200] = 1
    view = Radiograph.from_array(mask + chest(500, 300) / 1e6).model_view(256)
    small = view.square.to_model(mask)
    back = view.to_source(small)[0, 0].numpy() > 0.5
    rows, columns = np.flatnonzero(back.any(1)), np.flatnonzero(back.any(0))
    assert (abs(rows[0] - 100), abs(rows[-1] - 299), abs(columns[0] - 40), abs(columns[-1] - 199)) <= (
        1,
        1,
        1,
        1,
    )
    assert view.to_source(torch.rand(2, 3, 32, 32)).shape == (2, 3, 500, 300)


@pytest.mark.parametrize("shape", [(90, 70), (70, 90), (300, 17), (16, 16)])
def test_the_view_is_that_of_the_padded_square(shape: tuple[int, int]) -> None:
    """The square itself is never made; what comes out is as if it had been."""
    picture, square = chest(*shape) / np.float32(4096), SquareView(*shape, 64)
    padded = functional.pad(torch.from_numpy(picture)[None, None], square.pads)
    assert torch.allclose(square.to_model(picture), resize(padded, 64), atol=1e-6)
    maps = torch.rand(1, 2, 32, 32)
    left, _, top, _ = square.pads
    whole = resize(maps, square.side)
    expected = whole[..., top : top + shape[0], left : left + shape[1]]
    assert torch.allclose(square.to_source(maps), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(12_000, 16), (16, 12_000)])
def test_a_long_strip_needs_no_square_of_its_length(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0

    def noting(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def wrapped(*arguments: Any, **options: Any) -> torch.Tensor:
            nonlocal largest
            made = function(*arguments, **options)
            largest = max(largest, made.numel())
            return made

        return wrapped

    for name in ("pad", "interpolate"):
        monkeypatch.setattr(functional, name, noting(getattr(functional, name)))
    view = Radiograph.from_array(chest(*shape)).model_view(256)
    assert view.pixels.shape == (1, 1, 256, 256)
    assert view.to_source(view.pixels).shape == (1, 1, *shape)
    assert largest <= 256 * 12_000


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (4, 1, 6), (4, 6, 1), (1, 1, 4, 6)])
@pytest.mark.parametrize("turned", [(t, r, c) for t in (0, 1) for r in (0, 1) for c in (0, 1)])
def test_grid_inverts_every_turn(shape: tuple[int, ...], turned: tuple[int, int, int]) -> None:
    grid = Grid(shape, *map(bool, turned))
    stored = np.arange(24).reshape(shape)
    assert grid.picture(stored).shape == ((6, 4) if turned[0] else (4, 6))
    assert np.array_equal(grid.stored(grid.picture(stored)), stored)


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (5, 1, 7), (5, 7, 1)])
@pytest.mark.parametrize("turned", [(t, r, c) for t in (0, 1) for r in (0, 1) for c in (0, 1)])
def test_a_pixel_of_the_file_is_found_in_the_upright_picture(
    shape: tuple[int, ...], turned: tuple[int, int, int]
) -> None:
    grid = Grid(shape, *map(bool, turned))
    stored = np.arange(35).reshape(shape)
    picture = grid.picture(stored)
    for row, column in ((0, 0), (4, 0), (1, 6), (3, 2)):
        assert picture[grid.upright_place(row, column)] == stored.reshape(5, 7)[row, column]
