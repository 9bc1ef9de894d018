"""Agreement of predicted lungs with reference masks: Dice and the 95 % Hausdorff distance, by MONAI.

Conventions, so that a number means the same everywhere:

- Right and left lung are scored apart; the zones 3-5 count as right lung, 6-8 as left lung, and learnt
  segments (from 16) as background.
- A lung absent from both masks is a perfect agreement: Dice 1, distance 0. A lung in only one of them is a
  complete miss: Dice 0, and the distance is the diagonal of the picture (100 %), the largest there is.
- The Hausdorff distance is the larger of the two directed 95th percentiles between the outlines, measured in
  pixels and given in per cent of the diagonal, because most masks come without a pixel spacing; in mm where
  there is one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import DiceHelper, compute_hausdorff_distance

from dino_diffusion.codes import FIRST_LEARNT
from dino_diffusion.errors import Cancelled, DinoDiffusionError
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.labelfiles import Spacing, pair_by_stem, read_labels, stem

RIGHT, LEFT = (1, 3, 4, 5), (2, 6, 7, 8)

DICE = DiceHelper(
    include_background=True, apply_argmax=False, ignore_empty=False, get_not_nans=False, reduction="none"
)


@dataclass(frozen=True)
class LungScores:
    """Agreement for one image: Dice of each lung; Hausdorff distance as the mean of the two lungs."""

    right: float
    left: float
    hd95: float
    """Per cent of the picture's diagonal."""
    hd95_mm: float | None
    """None where the spacing is unknown."""

    @property
    def mean(self) -> float:
        """Mean Dice of the two lungs."""
        return (self.right + self.left) / 2


def score_pair(predicted: np.ndarray, reference: np.ndarray, spacing_mm: Spacing | None) -> LungScores:
    """Score one labelmap.

    Args:
        predicted: `(H, W)` labels.
        reference: `(H, W)` labels on the same grid.
        spacing_mm: row and column spacing, or None.

    Raises:
        EvaluationError: the shapes differ, or a label is none of the known ones.
    """
    if predicted.shape != reference.shape:
        raise EvaluationError(
            f"The mask is {_size(reference)} pixels and the labelled image {_size(predicted)}: "
            "resample the mask to its image's grid (nearest neighbour)."
        )
    ours, theirs = _lungs(predicted), _lungs(reference)
    right, left = DICE(ours, theirs)[0].tolist()
    distance = _hausdorff95(ours, theirs, (1.0, 1.0))
    return LungScores(
        right=right,
        left=left,
        hd95=100 * distance / math.hypot(*reference.shape),
        hd95_mm=None if spacing_mm is None else _hausdorff95(ours, theirs, spacing_mm, isotropic=distance),
    )


def _lungs(labels: np.ndarray) -> torch.Tensor:
    """`(H, W)` labels to `(1, 2, H, W)` bool: right and left lung."""
    unknown = set(np.unique(labels).tolist()) - {0, *RIGHT, *LEFT, *range(FIRST_LEARNT, 128)}
    if unknown:
        raise EvaluationError(
            f"A labelmap has the label {min(unknown)}, which stands for no region: "
            "use 0 for background, 1 for the patient's right lung, 2 for the left lung (3 to 8 for zones)."
        )
    return torch.from_numpy(np.stack([np.isin(labels, RIGHT), np.isin(labels, LEFT)]))[None]


def _hausdorff95(
    ours: torch.Tensor, theirs: torch.Tensor, spacing: Spacing, isotropic: float | None = None
) -> float:
    """Mean over the two lungs. `isotropic`: the distance in pixels, which square pixels merely scale."""
    if isotropic is not None and math.isclose(*spacing, rel_tol=1e-6):
        return isotropic * spacing[0]
    height, width = ours.shape[-2:]
    distances = []
    for lung in (0, 1):
        a, b = ours[:, lung : lung + 1], theirs[:, lung : lung + 1]
        if not a.any() and not b.any():
            distances.append(0.0)
        elif not a.any() or not b.any():
            distances.append(math.hypot(height * spacing[0], width * spacing[1]))
        else:
            with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that MONAI itself passes
                warnings.simplefilter("ignore", FutureWarning)
                found = compute_hausdorff_distance(a, b, True, percentile=95, spacing=spacing)
            distances.append(float(found))
    return sum(distances) / 2


def _size(labels: np.ndarray) -> str:
    return " x ".join(str(side) for side in reversed(labels.shape))


@dataclass(frozen=True)
class SegmentationReport:
    """Scores of a folder; files that failed are listed and count in no average."""

    scores: dict[str, LungScores]
    failed: dict[str, str]
    """Stem to the sentence that says why."""
    images_alone: list[str]
    masks_alone: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document.

        `n`; `dice`: `right`, `left` and `mean` averaged over images, `p5` the 5th percentile of the per-image
        means; `hd95` in per cent of the diagonal; `hd95_mm` over the images whose spacing is known (else
        null); `per_image`; `failed`; `images_without_mask`; `masks_without_image`.
        """
        scores = list(self.scores.values())
        in_mm = [score.hd95_mm for score in scores if score.hd95_mm is not None]
        means = [score.mean for score in scores]
        return {
            "n": len(scores),
            "dice": {
                "right": _mean([score.right for score in scores]),
                "left": _mean([score.left for score in scores]),
                "mean": _mean(means),
                "p5": float(np.percentile(means, 5)),
            },
            "hd95": _mean([score.hd95 for score in scores]),
            "hd95_mm": _mean(in_mm) if in_mm else None,
            "per_image": [
                {
                    "stem": name,
                    "right": score.right,
                    "left": score.left,
                    "mean": score.mean,
                    "hd95": score.hd95,
                    "hd95_mm": score.hd95_mm,
                }
                for name, score in self.scores.items()
            ],
            "failed": [{"stem": name, "error": sentence} for name, sentence in self.failed.items()],
            "images_without_mask": self.images_alone,
            "masks_without_image": self.masks_alone,
        }


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def evaluate_segmentation(
    images_dir: Path,
    masks_dir: Path,
    segment: Callable[[Path], np.ndarray],
    progress: Callable[[int, int], None] | None = None,
    spacing: Callable[[Path], Spacing | None] | None = None,
) -> SegmentationReport:
    """Label every image that has a mask of the same stem and compare.

    A file that fails (unreadable, mask of another size, unknown label) is listed and the rest goes on.

    Args:
        images_dir: the images.
        masks_dir: label pictures (PNG, TIFF, ...) or label images (NIfTI, NRRD, MHA).
        segment: image file to `(H, W)` labels on the image's own grid.
        progress: called with (done, total) after every pair.
        spacing: image file to row and column spacing in mm, asked where the mask file stores none.

    Raises:
        EvaluationError: a folder is missing, nothing pairs, or every pair failed.
        Cancelled: passed through from `segment` or `progress`.
    """
    pairs = pair_by_stem(Path(images_dir), Path(masks_dir))
    scores: dict[str, LungScores] = {}
    failed = {
        name: f"Several files are called {name}: keep one image and one mask of a name in their folders."
        for name in pairs.ambiguous
    }
    for done, (image, mask) in enumerate(pairs.matched, start=1):
        name = stem(image)
        try:
            reference, spacing_mm = read_labels(mask)
            if spacing_mm is None and spacing is not None:
                spacing_mm = spacing(image)
            scores[name] = score_pair(segment(image), reference, spacing_mm)
        except Cancelled:
            raise
        except (DinoDiffusionError, OSError) as error:
            failed[name] = str(error)
        if progress is not None:
            progress(done, len(pairs.matched))
    if not scores:
        name, sentence = next(iter(failed.items()))
        raise EvaluationError(f"None of {len(failed)} pairs could be scored; the first, {name}: {sentence}")
    return SegmentationReport(scores, failed, pairs.images_alone, pairs.masks_alone)
