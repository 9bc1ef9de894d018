"""A folder of images against a folder of reference masks: figures with their confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from dino_diffusion.errors import Cancelled, DinoDiffusionError
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.intervals import (
    FailureRanking,
    Interval,
    fifth_percentile,
    interval,
    mean,
    rank_failures,
)
from dino_diffusion.evaluation.labelfiles import Pairs, Spacing, pair_by_stem, read_labels, stem
from dino_diffusion.evaluation.overlap import LUNGS, ImageScores, Structures, score_pair
from dino_diffusion.evaluation.presence import presence_of
from dino_diffusion.view_report import PROPER, ViewReport

NO_LABELS = np.zeros((0, 0), np.uint8)


@dataclass(frozen=True)
class Prediction:
    """What is to be scored: `(H, W)` labels on the image file's own grid, and what came with them."""

    labels: np.ndarray
    uncertainty: float | None = None
    warnings: tuple[str, ...] = ()
    view: ViewReport = PROPER


@dataclass(frozen=True)
class ScoredImage:
    """One image's scores, its files, and what the prediction said of itself."""

    scores: ImageScores
    image: Path
    mask: Path
    prediction: Prediction
    """Its labels are dropped: those of a folder would not fit in memory."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON and CSV: each structure's Dice, their mean, distances, uncertainty, warnings."""
        return {
            "stem": stem(self.image),
            **self.scores.dice,
            "mean": self.scores.mean,
            "hd95": self.scores.hd95,
            "hd95_mm": self.scores.hd95_mm,
            "uncertainty": self.prediction.uncertainty,
            **asdict(self.prediction.view),
            "warnings": list(self.prediction.warnings),
        }


@dataclass(frozen=True)
class SegmentationReport:
    """Scores of a folder by stem; files that failed are listed and count in no average."""

    images: dict[str, ScoredImage]
    failed: dict[str, str]
    """Stem to the sentence that says why."""
    images_alone: list[str] = field(default_factory=list)
    masks_alone: list[str] = field(default_factory=list)

    @property
    def scores(self) -> dict[str, ImageScores]:
        """Scores alone, by stem."""
        return {name: image.scores for name, image in self.images.items()}

    def to_dict(self) -> dict[str, Any]:
        """The JSON document.

        `n`; `dice`: each structure (`right`, `left`) and their `mean` averaged over images, `p5` the 5th
        percentile of the per-image means; `hd95` in per cent of the diagonal; `hd95_mm` over the images
        whose spacing is known (else null); `ci95`: the same figures' intervals, null where there are fewer
        than two images; `presence`: by structure that some images do not show, see `Presence`;
        `uncertainty`: see `FailureRanking`; `share_with_warnings`, and of these `share_negative`,
        `share_mirrored` and `share_foreign`, false alarms on a folder of proper radiographs; `per_image`;
        `failed`; `images_without_mask`; `masks_without_image`.
        """
        dice, hd95, hd95_mm = self._figures(lambda values, statistic: float(statistic(np.asarray(values))))
        dice_ci, hd95_ci, hd95_mm_ci = self._figures(interval)
        images = self.images.values()
        said = [image.prediction for image in images]
        return {
            "n": len(images),
            "dice": dice,
            "hd95": hd95,
            "hd95_mm": hd95_mm,
            "ci95": {"dice": dice_ci, "hd95": hd95_ci, "hd95_mm": hd95_mm_ci},
            "presence": {name: asdict(found) for name, found in presence_of([*self.scores.values()]).items()},
            "uncertainty": self.failure_ranking().to_dict(),
            "share_with_warnings": float(np.mean([bool(found.warnings) for found in said])),
            **shares([found.view for found in said]),
            "per_image": [image.to_dict() for image in images],
            "failed": [{"stem": name, "error": sentence} for name, sentence in self.failed.items()],
            "images_without_mask": self.images_alone,
            "masks_without_image": self.masks_alone,
        }

    def failure_ranking(self) -> FailureRanking:
        """How well the uncertainty of the images finds the bad ones among them."""
        known = [
            (image.prediction.uncertainty, image.scores.mean)
            for image in self.images.values()
            if image.prediction.uncertainty is not None
        ]
        return rank_failures([doubt for doubt, _ in known], [dice for _, dice in known])

    def worst(self, count: int) -> list[ScoredImage]:
        """The images with the lowest mean Dice, the worst one first."""
        return sorted(self.images.values(), key=lambda image: image.scores.mean)[:count]

    def _figures(
        self, summary: Callable[[Sequence[float], Callable[..., np.ndarray]], Any]
    ) -> tuple[dict[str, float | Interval | None], Any, Any]:
        """Dice figures, HD95 and HD95 in mm, each as `summary` of its values and its statistic."""
        scores = list(self.scores.values())
        means = [score.mean for score in scores]
        dice = {name: summary([score.dice[name] for score in scores], mean) for name in scores[0].dice}
        in_mm = [score.hd95_mm for score in scores if score.hd95_mm is not None]
        return (
            dice | {"mean": summary(means, mean), "p5": summary(means, fifth_percentile)},
            summary([score.hd95 for score in scores], mean),
            summary(in_mm, mean) if in_mm else None,
        )


def evaluate_segmentation(
    images_dir: Path,
    masks_dir: Path,
    segment: Callable[[Path], Prediction],
    progress: Callable[[int, int], None] | None = None,
    spacing: Callable[[Path], Spacing | None] | None = None,
    structures: Structures = LUNGS,
    limit: int | None = None,
) -> SegmentationReport:
    """Label every image that has a mask of the same stem and compare.

    A file that fails (unreadable, mask of another size, unknown label) is listed and the rest goes on.

    Args:
        images_dir: the images.
        masks_dir: label pictures (PNG, TIFF, ...) or label images (NIfTI, NRRD, MHA).
        segment: image file to its labels.
        progress: called with (done, total) after every pair.
        spacing: image file to row and column spacing in mm, asked where the mask file stores none.
        structures: what to score.
        limit: measure on so many pairs, evenly picked; what has no partner is then not listed.

    Raises:
        EvaluationError: a folder is missing, nothing pairs, or every pair failed.
        Cancelled: passed through from `segment` or `progress`.
    """
    pairs = pair_by_stem(Path(images_dir), Path(masks_dir)).limited(limit)
    return score_pairs(pairs, segment, progress, spacing, structures)


def score_pairs(
    pairs: Pairs,
    segment: Callable[[Path], Prediction],
    progress: Callable[[int, int], None] | None = None,
    spacing: Callable[[Path], Spacing | None] | None = None,
    structures: Structures = LUNGS,
) -> SegmentationReport:
    """`evaluate_segmentation` of pairs that are known already."""
    scored: dict[str, ScoredImage] = {}
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
            found = segment(image)
            scores = score_pair(found.labels, reference, spacing_mm, structures)
            said = replace(found, labels=NO_LABELS)
            scored[name] = ScoredImage(scores, image, mask, said)
        except Cancelled:
            raise
        except (DinoDiffusionError, OSError) as error:
            failed[name] = str(error)
        if progress is not None:
            progress(done, len(pairs.matched))
    if not scored:
        name, sentence = next(iter(failed.items()))
        raise EvaluationError(f"None of {len(failed)} pairs could be scored; the first, {name}: {sentence}")
    return SegmentationReport(scored, failed, pairs.images_alone, pairs.masks_alone)


def shares(views: Sequence[ViewReport]) -> dict[str, float]:
    """Of the pictures, the share that each check flagged, as `share_<check>`."""
    checks = [check.name for check in fields(ViewReport)]
    return {f"share_{name}": float(np.mean([getattr(view, name) for view in views])) for name in checks}
