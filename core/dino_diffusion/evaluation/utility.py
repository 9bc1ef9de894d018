"""Do synthetic radiographs help a classifier? The same network and number of steps in every arm.

The arms of Medical diffusion on a budget (arXiv 2303.13430) and synthetic pre-training as in RoentGen-v2,
beside classical augmentation, which costs nothing and which synthetic images have to beat.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_diffusion import __version__
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.classifier import Classifier, FineTuned, fit, predict, seen
from dino_diffusion.evaluation.utility_images import BalancedBatches, ImageSet, check_files, mixed_batches
from dino_diffusion.evaluation.utility_intervals import summarise
from dino_diffusion.files.atomic import atomic_path


@dataclass(frozen=True)
class Phase:
    """A part of the training: its share of the steps, the share of real pictures in a batch, and whether
    pictures are augmented classically."""

    steps: float = 1.0
    real: float = 1.0
    classical: bool = False


@dataclass(frozen=True)
class Arm:
    """A way to train, phase after phase."""

    name: str
    phases: tuple[Phase, ...]

    @property
    def synthetic(self) -> bool:
        """Whether it takes synthetic images at all."""
        return any(phase.real < 1 for phase in self.phases)


REAL, CLASSICAL = "real alone", "real, classical augmentation"
ARMS = (
    Arm(REAL, (Phase(),)),
    Arm(CLASSICAL, (Phase(classical=True),)),
    Arm("real + synthetic", (Phase(real=0.5),)),
    Arm("synthetic first, then real", (Phase(0.5, real=0.0), Phase(0.5))),
    Arm("synthetic alone", (Phase(real=0.0),)),
    Arm("real + synthetic, classical augmentation", (Phase(real=0.5, classical=True),)),
)


@dataclass(frozen=True)
class UtilitySettings:
    """seeds: trainings an arm, which differ in the head's start and the order and alterations of pictures.
    steps, batch: the compute of every arm. Raises EvaluationError for what is impossible."""

    seeds: int = 5
    steps: int = 120
    batch: int = 16

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.steps < 2 or self.batch < 4 or self.batch % 4:
            raise EvaluationError(
                f"{self.seeds} seeds, {self.steps} steps of {self.batch} pictures cannot be; use at least 1 "
                "seed, 2 steps, and a multiple of 4 pictures, so that classes and sources share them evenly."
            )


@dataclass(frozen=True, eq=False)
class Study:
    """One comparison: real images and synthetic sets by name ("" for the only one), tested on the same.

    `kept`: folder for the scores of every training, so that a stopped study goes on; None keeps none.
    Raises EvaluationError for a set of one class, ConfigurationError where a test image was trained on.
    """

    real: ImageSet
    synthetic: Mapping[str, ImageSet]
    test: ImageSet
    settings: UtilitySettings = field(default_factory=UtilitySettings)
    network: Classifier = FineTuned
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    kept: Path | None = None
    arms: tuple[Arm, ...] = ARMS
    _kept_maps: dict[str, torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        sets = {"real": self.real} | {f"synthetic {k}".strip(): s for k, s in self.synthetic.items()}
        for name, images in ({"test": self.test} | sets).items():
            if images.labels.all() or not images.labels.any():
                raise EvaluationError(f"The {name} images show one class only: give some of each.")
        for name, images in sets.items():
            check_files(images, self.test, name)

    def trials(self) -> list[tuple[str, Arm, str]]:
        """Row name, arm and synthetic set, those without synthetic images first."""
        found = [(arm.name, arm, "") for arm in self.arms if not arm.synthetic]
        for name in self.synthetic:
            told = f" ({name})" if name else ""
            found += [(arm.name + told, arm, name) for arm in self.arms if arm.synthetic]
        return found

    def run(self, tell: Callable[[str, int], None] = lambda name, seed: None) -> dict[str, np.ndarray]:
        """Scores `(seeds, N)` of the test images by row; `tell(row, seed)` after each training."""
        scores: dict[str, np.ndarray] = {}
        for name, arm, synthetic in self.trials():
            rows = []
            for seed in range(self.settings.seeds):
                rows.append(self._scores(arm, synthetic, seed))
                tell(name, seed)
            scores[name] = np.stack(rows)
        return scores

    def report(self, scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The JSON document: `settings`, how many images of each class every set has, and `arms`, see
        `summarise`."""
        return {
            "settings": asdict(self.settings),
            "images": {
                "real": self.real.counts(),
                "test": self.test.counts(),
                **{f"synthetic {name}".strip(): images.counts() for name, images in self.synthetic.items()},
            },
            "arms": summarise(scores, self.test.labels, self.test.patients, (REAL, CLASSICAL)),
        }

    def _scores(self, arm: Arm, synthetic: str, seed: int) -> np.ndarray:
        if self.kept is None:
            return self._train(arm, synthetic, seed)
        path = self.kept / f"{self._key(arm, synthetic, seed)}.json"
        if path.is_file():
            return np.array(json.loads(path.read_text())["scores"])
        scores = self._train(arm, synthetic, seed)
        about = {"arm": arm.name, "synthetic": synthetic, "seed": seed, "scores": scores.tolist()}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(about))
        return scores

    def _key(self, arm: Arm, synthetic: str, seed: int) -> str:
        """Names everything that decides about the scores."""
        sets = [self.real, self.test, *([self.synthetic[synthetic]] if arm.synthetic else [])]
        if not any(phase.real for phase in arm.phases):
            sets.remove(self.real)
        settings = asdict(self.settings) | {"seeds": None}
        network = [__version__, getattr(self.network, "__name__", "")]
        decisive = [asdict(arm), seed, settings, network, [images.sha256 for images in sets]]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:24]

    def _train(self, arm: Arm, synthetic: str, seed: int) -> np.ndarray:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = self.network().to(self.device)
            for number, phase in enumerate(arm.phases):
                steps = max(1, round(phase.steps * self.settings.steps))
                real = round(phase.real * self.settings.batch)
                # Altered pictures are new at every step; the others pass the frozen blocks once a study.
                parts = [
                    (
                        BalancedBatches(
                            images, 1000 * seed + number, None if phase.classical else self._seen(images)
                        ),
                        count,
                    )
                    for images, count in (
                        (self.real, real),
                        (self.synthetic.get(synthetic, self.real), self.settings.batch - real),
                    )
                    if count
                ]
                fit(network, mixed_batches(parts, steps, phase.classical, 1000 * seed + number), steps)
        return predict(network, self._seen(self.test))

    def _seen(self, images: ImageSet) -> torch.Tensor:
        """`classifier.seen`, which is the same for a network of any seed and draws none of its numbers."""
        if images.sha256 not in self._kept_maps:
            with torch.random.fork_rng():
                self._kept_maps[images.sha256] = seen(self.network().to(self.device), images.pixels)
        return self._kept_maps[images.sha256]
