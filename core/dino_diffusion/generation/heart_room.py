"""Room for a heart to grow or to shrink: where a strip may not hear from the radiograph's own patch tokens.

They tell the model nearly everything, the heart's outline too. A concept about the heart's size changes next
to nothing beside those that show it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from skimage.morphology import convex_hull_image

from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.masks import surroundings
from dino_diffusion.models import EncoderOutput
from dino_diffusion.view import SquareView

ENLARGED_HEART = "8186001"
"""SNOMED CT: cardiomegaly."""

GREAT_VESSELS, MARGIN = 0.35, 0.06
"""Of the lungs' height, what lies beside no heart; of their common width, how far it may grow."""


def about_the_heart(concepts: Iterable[Concept]) -> bool:
    """Is one of them coded as an enlarged heart?"""
    return any(concept.code is not None and concept.code.value == ENLARGED_HEART for concept in concepts)


def heart_room(labels: np.ndarray) -> np.ndarray:
    """`(H, W)` bool from lung labels `(H, W)`: what lies between the lungs beside the heart, and a margin.

    Nothing without two lungs.
    """
    right, left = labels == RIGHT_LUNG, labels == LEFT_LUNG
    if not (right.any() and left.any()):
        return np.zeros(labels.shape, bool)
    chest = convex_hull_image(right | left)
    rows, columns = np.flatnonzero(chest.any(1)), np.flatnonzero(chest.any(0))
    room = chest & ~right & ~left
    room[: round(rows[0] + GREAT_VESSELS * len(rows))] = False
    return np.asarray(binary_dilation(room, iterations=max(1, round(MARGIN * len(columns)))))


def without_heart(
    encoded: EncoderOutput, labels: np.ndarray, square: SquareView, grid: int
) -> tuple[EncoderOutput, torch.Tensor]:
    """Tokens of a radiograph's view that say nothing of its heart, and which are left `(1, 1 + grid^2)`.

    `labels` (h, w): its lungs, on `square.inside`. The CLS token, which has seen all of it, is not left.
    """
    covered = torch.zeros(1, 1, square.size, square.size, device=encoded.cls.device)
    covered[0, 0][square.inside] = torch.from_numpy(heart_room(labels)).to(covered)
    tokens, present = surroundings(encoded, covered, grid)
    return tokens, torch.cat([present.new_zeros(1, 1), present], dim=1)
