"""Variants on the grid of the radiograph they are variants of."""

from __future__ import annotations

import numpy as np
import pytest

from dino_diffusion.generation.placed import PLACED, on_grid, placed_recipe
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.sampled import Synthetic
from dino_diffusion.radiograph import Radiograph
from tests.tiny import SIZE, smooth_picture


@pytest.mark.parametrize("shape", [(150, 150), (150, 90), (70, 131), (32, 48)])
def test_the_models_own_view_of_a_radiograph_comes_back_as_the_radiograph(shape: tuple[int, int]) -> None:
    picture = np.round(smooth_picture(3, *shape) * 4000).astype(np.uint16)
    radiograph = Radiograph.from_array(picture)
    view = radiograph.model_view(SIZE)
    item = Synthetic(view.pixels[0, 0].numpy()[view.square.inside], Recipe("generate", "0" * 16, {}))
    placed = on_grid(item, radiograph, SIZE)
    assert placed.dtype == np.uint16 and placed.shape == shape
    # Percentiles clip a little, and a smaller view is a little less sharp.
    assert np.abs(placed.astype(float) - picture).mean() < 0.02 * np.ptp(picture)


def test_the_recipe_says_that_the_picture_was_enlarged() -> None:
    radiograph = Radiograph.from_array(smooth_picture(0, 80, 100))
    recipe = placed_recipe(Synthetic(radiograph.pixels, Recipe("generate", "0" * 16, {})), radiograph)
    assert recipe.checks[PLACED] == [80, 100]
