"""An inpainted radiograph as files: the image, its ground truth and its recipe, all of them or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dino_diffusion.files.atomic import all_or_none
from dino_diffusion.files.formats import SUFFIXES, format_of_suffix, stem_of, suffix_of
from dino_diffusion.files.overlay_plane import written as letters
from dino_diffusion.files.write_image import image_format, write_image
from dino_diffusion.files.write_labelmap import ENDINGS, SAME, write_labelmap
from dino_diffusion.generation.blend import ChangedOutside
from dino_diffusion.generation.painting import Inpainted
from dino_diffusion.generation.recipe import ENDING as RECIPE_ENDING
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.radiograph import Labelmap, Radiograph

INSIDE = 255
"""Value of the painted pixels in the ground truth: white to whoever opens it."""

MASK_ENDING = "_mask"
WORD = "SYNTHETIC"
BURNED_IN = "burned_in"
"""In `Recipe.checks`: the word that was stamped into the pixels after they had been checked."""


def save_inpainted(item: Inpainted, path: Path, burn_in: bool = False) -> list[Path]:
    """Writes image, `<stem>_mask` and `<stem>.recipe.json`; returns the paths in this order.

    In the format of the path's ending, without one in the source's. What was written is read again and
    compared to the bit. `burn_in` stamps SYNTHETIC over the lower border, after the check of the pixels
    outside the mask, of which some then differ. Raises RadiographError where the place cannot be written to
    or an original would be replaced.
    """
    path = planned(item.radiograph, path)[0]
    stored, recipe = (_stamped(item) if burn_in else item.stored), item.recipe
    if burn_in:
        recipe = replace(recipe, checks=recipe.checks | {BURNED_IN: WORD})
    with all_or_none() as written:
        written.append(_write_checked(item.radiograph, stored, path, recipe))
        written.append(_write_mask(item, written[0]))
        written.append(recipe.write_beside(written[0]))
    return written


def planned(radiograph: Radiograph, path: Path) -> list[Path]:
    """Where `save_inpainted` is to write image, mask and recipe."""
    source = radiograph.source
    if not suffix_of(path):
        path = path.with_name(path.name + SUFFIXES[image_format(source)][0])
    stem, ending = stem_of(path), ENDINGS[_mask_format(path)]
    return [path, path.with_name(f"{stem}{MASK_ENDING}{ending}"), path.with_name(f"{stem}{RECIPE_ENDING}")]


def _write_checked(radiograph: Radiograph, stored: np.ndarray, path: Path, recipe: Recipe) -> Path:
    path = write_image(radiograph, stored, path, synthetic=recipe.to_dict())
    back = Radiograph.read(path).stored
    if back.dtype != stored.dtype or back.tobytes() != stored.tobytes():
        path.unlink()
        raise ChangedOutside(
            f"{path}: the file does not hold the very pixels that were to be written, so it was removed; "
            "please report it, with the image's format."
        )
    return path


def _write_mask(item: Inpainted, image: Path) -> Path:
    """The ground truth, which belongs to the new image and not to its source."""
    path = planned(item.radiograph, image)[1]
    concepts = ", ".join(name for name, _ in item.recipe.parameters["concepts"])
    labels = np.where(item.mask, INSIDE, 0).astype(np.uint8)
    labelmap = Labelmap(labels, Radiograph.read(image), {INSIDE: concepts or "repainted"})
    return write_labelmap(labelmap, path, _mask_format(image))


def _mask_format(image: Path) -> str:
    """That of the image, to which the mask belongs; PNG where it has no known ending."""
    return SAME.get(format_of_suffix(suffix_of(image)) or "", "png")


def _stamped(item: Inpainted) -> np.ndarray:
    """White letters on a black rim, in stored values."""
    word = letters(WORD, item.stored.shape)
    rim = np.zeros_like(word)
    for step in (-1, 1):
        rim |= np.roll(word, step, 0) | np.roll(word, step, 1)
    stored = item.stored.copy()
    for where, shade in ((rim, 0.0), (word, 1.0)):
        stored[where] = item.radiograph.grey.stored(np.full(int(where.sum()), shade), stored.dtype)
    return stored
