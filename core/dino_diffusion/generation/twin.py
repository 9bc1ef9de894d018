"""The healthy twin: the same chest with lungs as a healthy one has them, and where the two differ.

The twin is inpainting with the concept healthy over the lungs; where it differs from the radiograph by more
than chance may be a lesion (for brain scans: Wolleb et al. 2022, arXiv 2203.04306).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from skimage.morphology import isotropic_closing, isotropic_dilation

from dino_diffusion.codes import FIRST_LEARNT, LEFT_LUNG, RIGHT_LUNG
from dino_diffusion.errors import RadiographError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.masks import EditMask, pixel_size_mm
from dino_diffusion.generation.painting import Inpainted, Inpainting, InpaintSettings
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Labelmap, Radiograph
from dino_diffusion.sampling import SamplingStep
from dino_diffusion.segmentation.lungs import segment_lungs

STRENGTH, CANDIDATES = 0.9, 4
"""From less noise than this the shape of an opacity stays; from all of it the film's own ribs go."""

MUCH_SMALLER = 0.4
CLOSING_MM, DILATION_MM = 15.0, 6.0
"""Dense lung is easily taken for something else: gaps and notches of the segmentation are closed, then the
mask is widened a bit."""

SMOOTHING_MM = 6.0
"""Differences are looked at on this scale, finer ones are vessels that no two candidates paint alike."""

DEVIATIONS, SMALLEST_CHANGE, SMALLEST_MM2, MOST_REGIONS = 2.0, 0.03, 100.0, 12
"""A candidate region differs by more than so many times what chance does and by so much of the grey range,
and is so large; the largest are kept."""


@dataclass(frozen=True, eq=False)
class Region:
    """One place where radiograph and twin differ. `label` in the labelmap; `difference` in shown grey,
    positive where the radiograph is denser; `deviations`: its mean in units of what chance does."""

    label: int
    area_mm2: float
    difference: float
    deviations: float

    @property
    def name(self) -> str:
        """For a labelmap's legend."""
        return f"region {self.label - FIRST_LEARNT + 1}, {'denser' if self.difference > 0 else 'less dense'}"


@dataclass(frozen=True, eq=False)
class Twin:
    """`candidates`: each a twin, the first is the one to show.

    `difference` (H, W) float32: radiograph minus the candidates' mean in shown grey, without the fine detail
    that no two candidates paint alike; `chance` (H, W): one standard deviation of what chance does to it.
    """

    candidates: list[Inpainted]
    difference: np.ndarray
    chance: np.ndarray
    regions: list[Region]
    labelmap: Labelmap


def healthy_twin(
    bundle: ModelBundle,
    radiograph: Radiograph,
    healthy: Concept,
    mask: np.ndarray | None = None,
    keep: np.ndarray | None = None,
    candidates: int = CANDIDATES,
    settings: InpaintSettings | None = None,
    callback: Callable[[SamplingStep], bool | None] | None = None,
) -> Twin:
    """Both lungs, or what `mask` marks, painted anew as `healthy`; two candidates or more tell chance apart.

    Raises as `inpaint` does, and RadiographError where no lung is found and no mask given.
    """
    shared = prepare(bundle, radiograph, healthy, mask, keep, settings)
    return compare(shared, shared.candidates(max(2, candidates), callback))


def prepare(
    bundle: ModelBundle,
    radiograph: Radiograph,
    healthy: Concept,
    mask: np.ndarray | None = None,
    keep: np.ndarray | None = None,
    settings: InpaintSettings | None = None,
) -> Inpainting:
    """What all candidates of `healthy_twin` share. Raises RadiographError and ConceptError as it does."""
    edit = EditMask.of(radiograph, lungs_mask(bundle, radiograph) if mask is None else mask, keep)
    settings = settings or twin_settings()
    return Inpainting.of(bundle, radiograph, edit, [(healthy, 1.0)], settings)


def twin_settings(**chosen: Any) -> InpaintSettings:
    """What is usual for a twin but where something else is chosen; None is no choice.

    The level is kept: with both lungs hidden the model cannot know the film's exposure.
    """
    said = {name: value for name, value in chosen.items() if value is not None}
    return InpaintSettings(**({"strength": STRENGTH, "keep_level": True} | said))


def lungs_mask(bundle: ModelBundle, radiograph: Radiograph) -> np.ndarray:
    """`mask_of_lungs` of what `segment_lungs` finds."""
    return mask_of_lungs(segment_lungs(bundle, radiograph).labelmap)


def mask_of_lungs(labelmap: Labelmap) -> np.ndarray:
    """`(H, W)` bool: both lungs, closed and widened. Raises RadiographError where there is none.

    A lung that is missing or much smaller than the other, as a white one is, gets the other's mirror image.
    """
    labels, radiograph = labelmap.labels, labelmap.radiograph
    smaller, larger = sorted((labels == value for value in (RIGHT_LUNG, LEFT_LUNG)), key=np.sum)
    if not larger.any():
        raise RadiographError(
            f"{radiograph.source.name}: no lung was found in it; mark with a mask what to make healthy."
        )
    lungs = smaller | larger
    if smaller.sum() < MUCH_SMALLER * larger.sum():
        lungs |= larger[:, ::-1]
    pixel = float(np.mean(pixel_size_mm(radiograph)))
    closed = isotropic_closing(np.pad(lungs, margin := int(CLOSING_MM / pixel) + 1), CLOSING_MM / pixel)
    return isotropic_dilation(closed[margin:-margin, margin:-margin], DILATION_MM / pixel)


def compare(shared: Inpainting, made: list[Inpainted]) -> Twin:
    """What the candidates of one edit have in common that the radiograph has not.

    Chance is what the autoencoder alone changes on its round trip, and what the candidates disagree about.
    Both are judged at the model's size, where they arise.
    """
    radiograph, window = shared.radiograph, shared.window
    view, *twins = (
        window.grey_to_model(pixels)[0, 0].numpy()
        for pixels in (radiograph.pixels, *(painted.pixels for painted in made))
    )
    model_pixel = np.mean(pixel_size_mm(radiograph)) * window.box.side / window.square.size

    def smooth(picture: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(picture, SMOOTHING_MM / model_pixel))

    round_trip = smooth(smooth(shared.restored.cpu().numpy()[0, 0] - view) ** 2)
    spread = smooth(np.std([smooth(twin) for twin in twins], axis=0, ddof=1) ** 2)
    maps = np.stack([smooth(view - np.mean(twins, axis=0)), np.sqrt(round_trip + spread)])
    # To shown grey, in which the radiograph's own range is not stretched.
    maps = window.scale.invert(maps) - window.scale.invert(np.zeros(1))
    difference, chance = np.zeros((2, *radiograph.shape), np.float32)
    difference[window.region], chance[window.region] = window.to_source(torch.from_numpy(maps)[None])[0]
    regions, labels = _regions(difference, chance, shared.mask.inside, pixel_size_mm(radiograph))
    labelmap = Labelmap(labels, radiograph, {region.label: region.name for region in regions})
    return Twin(made, difference, chance, regions, labelmap)


def _regions(
    difference: np.ndarray, chance: np.ndarray, inside: np.ndarray, pixel_size: tuple[float, float]
) -> tuple[list[Region], np.ndarray]:
    """Connected places that differ by more than chance, the largest first, and their labels `(H, W)`."""
    deviations = difference / np.maximum(chance, 1e-6)
    notable = inside & (np.abs(deviations) > DEVIATIONS) & (np.abs(difference) > SMALLEST_CHANGE)
    parts = np.zeros(inside.shape, np.int32)
    for sign in (1, -1):
        found, _ = ndimage.label(notable & (sign * difference > 0))
        parts += np.where(found > 0, found + parts.max(), 0)
    areas = np.bincount(parts.ravel()) * pixel_size[0] * pixel_size[1]
    areas[0] = 0
    labels = np.zeros(inside.shape, np.uint8)
    regions: list[Region] = []
    for part in np.argsort(-areas, kind="stable")[:MOST_REGIONS]:
        if areas[part] < SMALLEST_MM2:
            break
        where, label = parts == part, FIRST_LEARNT + len(regions)
        labels[where] = label
        means = float(difference[where].mean()), float(deviations[where].mean())
        regions.append(Region(label, float(areas[part]), *means))
    return regions, labels
