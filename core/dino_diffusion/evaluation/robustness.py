"""What odd input costs: Dice of altered files against that of the same files as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dino_diffusion.errors import Cancelled, DinoDiffusionError
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.cases import page_of_cases
from dino_diffusion.evaluation.intervals import interval
from dino_diffusion.evaluation.labelfiles import pair_by_stem, read_labels, stem
from dino_diffusion.evaluation.odd_input import ODD_INPUT, Alteration
from dino_diffusion.evaluation.overlap import check_grid, mean_dice
from dino_diffusion.evaluation.segmentation import shares
from dino_diffusion.radiograph import Labelmap, Radiograph
from dino_diffusion.view_report import ViewReport

UNALTERED = "unaltered"
TOLERATED = 0.03
"""Dice that an alteration may cost."""


class Found(Protocol):
    """What a segmenter answers, such as `LungSegmentation`."""

    @property
    def labelmap(self) -> Labelmap: ...
    @property
    def uncertainty(self) -> float: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def view(self) -> ViewReport: ...


Segment = Callable[[Radiograph], Found]


@dataclass(frozen=True)
class Trial:
    """One file under one alteration: mean Dice of both lungs, and what the program said of its answer."""

    stem: str
    dice: float
    uncertainty: float
    view: ViewReport
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RobustnessReport:
    """Trials by alteration, `unaltered` first; each alteration was tried on the same files.

    `files`: image and mask of each stem. `failed`: stem to the sentence that says why.
    """

    trials: dict[str, list[Trial]]
    files: dict[str, tuple[Path, Path]]
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document.

        `n`; `tolerated`: the Dice an alteration may cost; `unaltered` and each of `alterations`: mean `dice`,
        `p5`, `uncertainty`, `share_with_warnings`, `share_negative`, `share_mirrored`, `share_foreign` (hits
        where the alteration is of that name, else false alarms); of an alteration also `cost`, the mean loss
        of Dice on the same file, with its bootstrap interval `cost_ci95` (null below two files); `failed`.
        """
        plain = self.trials[UNALTERED]
        return {
            "n": len(plain),
            "tolerated": TOLERATED,
            UNALTERED: _summary(plain),
            "alterations": [
                {"name": name, **_summary(trials), **_cost(plain, trials)}
                for name, trials in self.trials.items()
                if name != UNALTERED
            ],
            "failed": [{"stem": name, "error": sentence} for name, sentence in self.failed.items()],
        }

    def rows(self) -> list[dict[str, Any]]:
        """Every trial, for a table."""
        return [
            {
                "alteration": name,
                "stem": trial.stem,
                "dice": trial.dice,
                "uncertainty": trial.uncertainty,
                **asdict(trial.view),
                "warnings": list(trial.warnings),
            }
            for name, trials in self.trials.items()
            for trial in trials
        ]


def evaluate_robustness(
    images_dir: Path,
    masks_dir: Path,
    segment: Segment,
    alterations: dict[str, Alteration] = ODD_INPUT,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RobustnessReport:
    """Label every image with a mask of the same stem as it is and under each alteration.

    A file that cannot be read or labelled under one of them is listed and counts under none.

    Args:
        images_dir: the images.
        masks_dir: masks of lungs.
        segment: radiograph to its labels.
        alterations: by name; see `odd_input`.
        limit: try so many pairs, evenly picked.
        progress: called with (done, total) files.

    Raises:
        EvaluationError: a folder is missing, nothing pairs, or every pair failed.
        Cancelled: passed through.
    """
    pairs = pair_by_stem(images_dir, masks_dir).limited(limit).matched
    trials: dict[str, list[Trial]] = {UNALTERED: [], **{name: [] for name in alterations}}
    files, failed = {}, {}
    for done, (image, mask) in enumerate(pairs, start=1):
        name = stem(image)
        try:
            pixels, reference = read_pair(image, mask)
            found = {UNALTERED: _trial(name, segment, pixels, reference)}
            for alteration, alter in alterations.items():
                found[alteration] = _trial(name, segment, *alter(pixels, reference))
        except Cancelled:
            raise
        except (DinoDiffusionError, OSError) as error:
            failed[name] = str(error)
        else:
            files[name] = image, mask
            for alteration, trial in found.items():
                trials[alteration].append(trial)
        if progress is not None:
            progress(done, len(pairs))
    if not files:
        name, sentence = next(iter(failed.items()))
        raise EvaluationError(f"None of {len(failed)} pairs could be tried; the first, {name}: {sentence}")
    return RobustnessReport(trials, files, failed)


def read_pair(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """Upright picture `(H, W)` in [0, 1] and the mask's labels on its grid.

    Raises:
        EvaluationError: the mask is unreadable or of another size.
        RadiographError: the image is unreadable.
    """
    radiograph = Radiograph.read(image.resolve())
    grid, (labels, _) = radiograph.source.grid, read_labels(mask)
    check_grid(grid.stored_plane(radiograph.pixels), labels)
    return radiograph.pixels, grid.picture(labels)


def worst_of_each(
    report: RobustnessReport, segment: Segment, alterations: dict[str, Alteration] = ODD_INPUT
) -> np.ndarray:
    """A page `(H, W, 3)` uint8 with the file that each alteration harmed most, altered and labelled.

    The labels are tinted, the reference is a white line.
    """
    cases = []
    plain = report.trials[UNALTERED]
    for name, alter in alterations.items():
        pairs = zip(plain, report.trials[name], strict=True)
        before, after = max(pairs, key=lambda pair: pair[0].dice - pair[1].dice)
        pixels, reference = alter(*read_pair(*report.files[after.stem]))
        labels = segment(Radiograph.from_array(pixels, name=after.stem)).labelmap.labels
        dice = f"Dice {after.dice:.2f}, unaltered {before.dice:.2f}"
        cases.append((pixels, labels, reference, f"{name}: {after.stem}", dice))
    return page_of_cases(cases, f"Where each alteration costs most, of {len(plain)}; white: reference")


def _trial(name: str, segment: Segment, pixels: np.ndarray, reference: np.ndarray) -> Trial:
    found = segment(Radiograph.from_array(pixels, name=name))
    dice = mean_dice(found.labelmap.labels, reference)
    return Trial(name, dice, float(found.uncertainty), found.view, found.warnings)


def _summary(trials: list[Trial]) -> dict[str, float]:
    dice = [trial.dice for trial in trials]
    return {
        "dice": float(np.mean(dice)),
        "p5": float(np.percentile(dice, 5)),
        "uncertainty": float(np.mean([trial.uncertainty for trial in trials])),
        "share_with_warnings": float(np.mean([bool(trial.warnings) for trial in trials])),
        **shares([trial.view for trial in trials]),
    }


def _cost(plain: list[Trial], altered: list[Trial]) -> dict[str, Any]:
    lost = [before.dice - after.dice for before, after in zip(plain, altered, strict=True)]
    return {"cost": float(np.mean(lost)), "cost_ci95": interval(lost)}
