"""A synthetic picture on the grid and in the grey values of the radiograph it is a variant of.

For viewers that lay one over the other: the picture stays as sharp as the model painted it, no more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.sampled import Synthetic
from dino_diffusion.radiograph import Radiograph

PLACED = "placed_on_grid"
"""In `Recipe.checks`: height and width to which the picture was enlarged after its hash had been taken."""


def on_grid(item: Synthetic, radiograph: Radiograph, size: int) -> np.ndarray:
    """Stored values `(H, W)`, turned and typed like `radiograph.stored`; `size`: side of the model's picture.

    `item`: of `variants.generate` with `like` this radiograph, or of a strip of it.
    """
    view = radiograph.model_view(size)
    rows, columns = view.square.inside
    square = item.pixels
    if square.shape != (size, size):
        # What lies beside the picture repeats its border, so that enlarging mixes in nothing foreign.
        beside = ((rows.start, size - rows.stop), (columns.start, size - columns.stop))
        square = np.pad(item.pixels, beside, mode="edge")
    pixels = view.grey_to_source(torch.from_numpy(np.ascontiguousarray(square))[None, None])
    return radiograph.to_stored(pixels, np.ones(radiograph.shape, dtype=bool))


def placed_recipe(item: Synthetic, radiograph: Radiograph) -> Recipe:
    """The recipe, which then says that the picture in the file is an enlarged one."""
    return replace(item.recipe, checks=item.recipe.checks | {PLACED: list(radiograph.shape)})
