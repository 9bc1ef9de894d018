"""Agreement of one labelmap with a reference: Dice and the 95 % Hausdorff distance, by MONAI.

Conventions, so that a number means the same everywhere:

- Right and left lung are scored apart; the zones 3-5 count as right lung, 6-8 as left lung, and learnt
  segments (from 16) as background. Other structures are scored by their own label values, and every value
  that belongs to none of them is background.
- A structure absent from both masks is a perfect agreement: Dice 1, distance 0. One in only one of them is
  a complete miss: Dice 0, and the distance is the diagonal of the picture (100 %), the largest there is.
- The Hausdorff distance is the larger of the two directed 95th percentiles between the outlines, measured in
  pixels and given in per cent of the diagonal, because most masks come without a pixel spacing; in mm where
  there is one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import DiceHelper, compute_hausdorff_distance

from dino_diffusion.codes import FIRST_LEARNT
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.labelfiles import Spacing

Structures = dict[str, tuple[int, ...]]
"""What is scored: a name, and the label values that count as it."""

LUNGS: Structures = {"right": (1, 3, 4, 5), "left": (2, 6, 7, 8)}
LUNG_FILE_VALUES = {0, *LUNGS["right"], *LUNGS["left"], *range(FIRST_LEARNT, 128)}
"""What may stand in a mask of lungs; anything else is a mistake rather than background."""

DICE = DiceHelper(
    include_background=True, apply_argmax=False, ignore_empty=False, get_not_nans=False, reduction="none"
)


@dataclass(frozen=True)
class ImageScores:
    """Agreement for one image: Dice of each structure; the Hausdorff distance is the mean over them."""

    dice: dict[str, float]
    hd95: float
    """Per cent of the picture's diagonal."""
    hd95_mm: float | None
    """None where the spacing is unknown."""
    shown: frozenset[str]
    """The structures that the reference holds."""

    @property
    def mean(self) -> float:
        """Mean Dice of the structures."""
        return sum(self.dice.values()) / len(self.dice)


def structures_of(values: Iterable[int]) -> Structures:
    """Every label value for itself, named by its number."""
    return {str(value): (value,) for value in sorted(values)}


def score_pair(
    predicted: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Spacing | None = None,
    structures: Structures = LUNGS,
) -> ImageScores:
    """Score one labelmap.

    Args:
        predicted: `(H, W)` labels.
        reference: `(H, W)` labels on the same grid.
        spacing_mm: row and column spacing, or None.
        structures: what to score.

    Raises:
        EvaluationError: the shapes differ, or lungs are scored and a label is none of the known ones.
    """
    ours, theirs = _masks(predicted, reference, structures)
    distance = _hausdorff95(ours, theirs, (1.0, 1.0))
    return ImageScores(
        dice=dict(zip(structures, DICE(ours, theirs)[0].tolist(), strict=True)),
        hd95=100 * distance / math.hypot(*reference.shape),
        hd95_mm=None if spacing_mm is None else _hausdorff95(ours, theirs, spacing_mm, isotropic=distance),
        shown=frozenset(name for name, mask in zip(structures, theirs[0], strict=True) if mask.any()),
    )


def mean_dice(predicted: np.ndarray, reference: np.ndarray, structures: Structures = LUNGS) -> float:
    """`score_pair(...).mean` alone: no distance, which takes seconds on a picture of 4,000 pixels."""
    return float(DICE(*_masks(predicted, reference, structures)).mean())


def check_grid(image: np.ndarray, reference: np.ndarray) -> None:
    """Raises EvaluationError where a mask does not have its image's size."""
    if image.shape != reference.shape:
        raise EvaluationError(
            f"The mask is {_size(reference)} pixels and the labelled image {_size(image)}: "
            "resample the mask to its image's grid (nearest neighbour)."
        )


def _masks(
    predicted: np.ndarray, reference: np.ndarray, structures: Structures
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two `(H, W)` labelmaps to `(1, structures, H, W)` bool."""
    check_grid(predicted, reference)
    pair = []
    for labels in (predicted, reference):
        if structures is LUNGS and (unknown := set(np.unique(labels).tolist()) - LUNG_FILE_VALUES):
            raise EvaluationError(
                f"A labelmap has the label {min(unknown)}, which stands for no region: use 0 for "
                "background, 1 for the patient's right lung, 2 for the left lung (3 to 8 for zones)."
            )
        masks = np.stack([np.isin(labels, values) for values in structures.values()])
        pair.append(torch.from_numpy(masks)[None])
    return pair[0], pair[1]


def _hausdorff95(
    ours: torch.Tensor, theirs: torch.Tensor, spacing: Spacing, isotropic: float | None = None
) -> float:
    """Mean over the structures. `isotropic`: the distance in pixels, which square pixels merely scale."""
    if isotropic is not None and math.isclose(*spacing, rel_tol=1e-6):
        return isotropic * spacing[0]
    height, width = ours.shape[-2:]
    distances = []
    for number in range(ours.shape[1]):
        a, b = ours[:, number : number + 1], theirs[:, number : number + 1]
        if not a.any() and not b.any():
            distances.append(0.0)
        elif not a.any() or not b.any():
            distances.append(math.hypot(height * spacing[0], width * spacing[1]))
        else:
            with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that MONAI itself passes
                warnings.simplefilter("ignore", FutureWarning)
                found = compute_hausdorff_distance(a, b, True, percentile=95, spacing=spacing)
            distances.append(float(found))
    return sum(distances) / len(distances)


def _size(labels: np.ndarray) -> str:
    return " x ".join(str(side) for side in reversed(labels.shape))
