"""Right and left lung of one radiograph, with the uncertainty of that answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG
from dino_diffusion.device import inference
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Labelmap, Radiograph
from dino_diffusion.segmentation.observation import Observation, features_of_many, look_many, observe
from dino_diffusion.segmentation.outline import cut_out, outlined
from dino_diffusion.segmentation.shape import largest_region
from dino_diffusion.view import ModelView
from dino_diffusion.view_report import PROPER, ViewReport

SMALL_LUNG = 0.02
"""A lung below this share of the picture is reported."""

HIGH_UNCERTAINTY = 0.25
"""Uncertainty of the whole image above which the result deserves a look."""

BLEED = 2
"""Model pixels beyond a kept region in which the probability may still decide the outline."""


@dataclass(frozen=True)
class LungSegmentation:
    """Labels on the radiograph's own grid. `uncertainty_map` (H, W) and `uncertainty` lie in [0, 1]."""

    labelmap: Labelmap
    uncertainty: float
    uncertainty_map: np.ndarray
    view: ViewReport = PROPER
    warnings: tuple[str, ...] = ()


def segment_lungs(bundle: ModelBundle, radiograph: Radiograph, seed: int = 0) -> LungSegmentation:
    """Labels 1 (patient's right lung) and 2 (left lung), from the denoiser's features, without any label.

    The answer depends on the image, the bundle and `seed` alone.
    """
    return lungs_of(bundle, observe(bundle, radiograph, seed))


def lungs_of(bundle: ModelBundle, observation: Observation) -> LungSegmentation:
    """`segment_lungs` of what has been observed."""
    found = _found(bundle, observation.features, [observation.view], [observation.report])[0]
    return found.outlined(observation.radiograph, observation.view)


@dataclass(frozen=True)
class FoundLungs:
    """What the models leave of a view: all that is needed for its lungs, and small.

    `votes` (times, 1, 3, h, w) float32: the head's probabilities of background, right and left lung at each
    of the read-out's noise levels. `mask` (1, C, C) bool: where both lungs are, if that is known already.
    """

    votes: np.ndarray
    report: ViewReport
    mask: np.ndarray | None = None

    @property
    def negative(self) -> bool:
        """Whether they were found on the negative of the view."""
        return self.report.negative

    def outlined(self, radiograph: Radiograph, view: ModelView) -> LungSegmentation:
        """The lungs on the radiograph's own grid; needs no model.

        The probabilities are averaged over the noise levels and outlined along the picture's own edges; of
        each lung the largest region stays. `view` is the one they were found on.
        """
        votes = torch.from_numpy(self.votes)
        mask = cut_out(votes.mean(0), view.pixels) if self.mask is None else self.mask
        sharp = outlined(votes.mean(0), mask)[0]
        labels = labels_of(view, keep_largest(sharp[1:].numpy()))
        on_grid = view.to_source(doubt_of(votes))[0, 0].numpy()
        uncertainty = image_uncertainty(votes)
        return LungSegmentation(
            Labelmap(labels, radiograph),
            uncertainty,
            on_grid,
            self.report,
            _warnings(labels, uncertainty, self.report),
        )


def find_lungs(
    bundle: ModelBundle, views: Sequence[ModelView], negative: Callable[[int], ModelView], seed: int = 0
) -> list[FoundLungs]:
    """On several model views at once, which suits a GPU; `negative` as in `look_many`.

    Lungs found on a negative are outlined on `negative(i)`.
    """
    looked = look_many(bundle, views, negative)
    features, _ = features_of_many(bundle, looked, seed)
    return _found(bundle, features, [one.view for one in looked], [one.report for one in looked])


def _found(
    bundle: ModelBundle, features: torch.Tensor, views: list[ModelView], reports: list[ViewReport]
) -> list[FoundLungs]:
    with inference(bundle.device):
        votes = torch.stack([bundle.readout(level).softmax(1) for level in features]).float()
        # A GPU cuts all at once; without one it is left to those who outline, perhaps on other cores.
        cut = cut_out(votes.mean(0), torch.cat([view.pixels for view in views])) if votes.is_cuda else None
    answers = votes.cpu().numpy()
    return [
        FoundLungs(answers[:, n : n + 1], report, None if cut is None else cut[n : n + 1])
        for n, report in enumerate(reports)
    ]


def labels_of(view: ModelView, lungs: np.ndarray) -> np.ndarray:
    """Probabilities `(2, h, w)` of right and left lung over the view to labels on the source's own grid."""
    on_source = view.to_source(torch.from_numpy(lungs)[None])[0].numpy()
    labels = np.zeros(on_source.shape[1:], dtype=np.uint8)
    lung = on_source.sum(0) > 0.5
    labels[lung] = RIGHT_LUNG
    labels[lung & (on_source[1] > on_source[0])] = LEFT_LUNG
    return labels


def doubt_of(votes: torch.Tensor) -> torch.Tensor:
    """How far the mean vote is from certain, `(B, 1, h, w)`: 0 where all agree, 1 at even odds."""
    lung = votes.mean(0)[:, 1:].sum(1, keepdim=True)
    return 1 - (2 * lung - 1).abs()


def image_uncertainty(votes: torch.Tensor) -> float:
    """Doubtful area relative to lung area, for one picture; 1 if no lung was found."""
    lung = votes.mean(0)[:, 1:].sum()
    return float((doubt_of(votes).sum() / (2 * lung).clamp_min(1e-6)).clamp(0, 1))


def keep_largest(lungs: np.ndarray) -> np.ndarray:
    """`(2, H, W)` probabilities of both lungs: zero away from each one's largest region, holes filled."""
    kept = np.zeros_like(lungs)
    winner = (lungs[1] > lungs[0]).astype(int)
    for index in range(2):
        region = largest_region((lungs.sum(0) > 0.5) & (winner == index))
        filled = ndimage.binary_fill_holes(region)
        near = ndimage.binary_dilation(filled, iterations=BLEED)
        kept[index] = np.where(filled & ~region, 1.0, lungs[index] * near)
    return kept


def _warnings(labels: np.ndarray, uncertainty: float, view: ViewReport) -> tuple[str, ...]:
    if view.foreign:
        return view.warnings
    said = list(view.warnings)
    for value, name in ((RIGHT_LUNG, "right"), (LEFT_LUNG, "left")):
        if (labels == value).mean() < SMALL_LUNG:
            said.append(f"The {name} lung is missing or very small; look at the picture.")
    if uncertainty > HIGH_UNCERTAINTY:
        said.append("The outline is uncertain; look at it before you use it.")
    return tuple(said)
