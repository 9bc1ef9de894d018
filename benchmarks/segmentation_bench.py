"""What the rows of `segmentation.py` share: files, bundle, recipes, and the clusters two of them read."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dino_diffusion.device import choose_device
from dino_diffusion.evaluation import EvaluationError, ablations, evenly
from dino_diffusion.evaluation.labelfiles import Pairs
from dino_diffusion.evaluation.release import list_rows
from dino_diffusion.evaluation.segmentation import Prediction
from dino_diffusion.evaluation.supervised import UNetSettings
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.observation import observe
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.readout import fit_readout
from dino_diffusion.training.settings import ReadoutSettings, load_settings, recipe_path

CLUSTERS, CLUSTERED_IMAGES = 32, 100

Segment = Callable[[Path], Prediction]
"""What labels a file."""


@dataclass
class Bench:
    """The files, the bundle and the recipes that all rows share. `rows`: of the list, those with masks."""

    bundle: ModelBundle
    data: Path
    split: str
    rows: list[dict[str, str]]
    limit: int | None
    recipe: str
    settings: ReadoutSettings
    folds: int
    unet: UNetSettings

    @classmethod
    def of(cls, options: argparse.Namespace) -> Bench:
        """What the command line's options describe. Raises DinoDiffusionError."""
        data, split = options.data, options.split
        rows = [row for row in list_rows(data) if row.get("split") == split and row.get("mask")]
        if len(rows) < max(2, options.folds):
            raise EvaluationError(f"{data}: {len(rows)} images of split '{split}' with a mask are too few.")
        bundle = ModelBundle.from_pretrained(options.bundle, choose_device(options.device))
        overrides: dict[str, Any] = {"data.path": str(data), "size": bundle.size}
        if options.train_images:
            overrides["images"] = options.train_images
        settings = load_settings(ReadoutSettings, recipe_path(options.recipe), overrides)
        unet = UNetSettings(steps=options.unet_steps)
        return cls(bundle, data, split, rows, options.limit, options.recipe, settings, options.folds, unet)

    def about(self) -> dict[str, Any]:
        """What must be the same for two rows to stand in one table."""
        return {
            "bundle": self.bundle.id,
            "device": str(self.bundle.device),
            "data": self.data.name,
            "split": self.split,
            "n": len(self.measured),
            "recipe": self.recipe,
            "train_images": self.settings.images,
            "folds": self.folds,
            "unet_steps": self.unet.steps,
        }

    @cached_property
    def measured(self) -> list[int]:
        """Which of `rows` are scored."""
        return evenly(len(self.rows), self.limit or len(self.rows))

    def file(self, row: dict[str, str], column: str) -> Path:
        """A file of the list."""
        return self.data.parent / row[column]

    @cached_property
    def pairs(self) -> Pairs:
        """Image and mask of each scored row."""
        chosen = (self.rows[i] for i in self.measured)
        return Pairs([(self.file(row, "image"), self.file(row, "mask")) for row in chosen], [], [], [])

    def fitted(self, bundle: ModelBundle, **changes: Any) -> ModelBundle:
        """`bundle` with a read-out trained for it by the label-free recipe."""
        settings = replace(self.settings, **changes)
        parts = bundle.encoder, bundle.autoencoder, bundle.denoiser
        return replace(bundle, readout=fit_readout(settings, *parts, bundle.device).to(bundle.device))

    @cached_property
    def clusters(self) -> ablations.ClusterReadout:
        """Clusters of the denoiser's features over training images, named by the prior."""
        return self.clustered(self.bundle)

    def clustered(self, bundle: ModelBundle) -> ablations.ClusterReadout:
        """The same for any denoiser: no self-training and no encoder patches among what is clustered.

        The principal components are those of the clustered features, whichever denoiser they come from.
        """
        features = []
        for number, radiograph in enumerate(self.corpus(CLUSTERED_IMAGES)):
            seen = observe(bundle, radiograph).features
            features.append(seen[number % len(seen)].cpu())
        readout = copy.deepcopy(bundle.readout).cpu()
        readout.fit_reduction(torch.cat(features))
        return ablations.fit_clusters(readout, torch.cat(features), CLUSTERS).to(bundle.device)

    def corpus(self, count: int) -> Iterator[Radiograph]:
        """Up to `count` training images, none with a mask that anyone looks at."""
        data = self.settings.data
        items = load_corpus(self.data, data.splits, data.sources)
        chosen = evenly(len(items), min(count, self.settings.images))
        for index in tqdm(chosen, "training images"):
            yield Radiograph.read(items[index].path)
