"""The default bundle's regions on real radiographs: lungs come out in one piece, thanks to the denoiser."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from dino_diffusion.evaluation.labelfiles import read_labels
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import observe
from dino_diffusion.segmentation.regions import Regions, hierarchy, regions_of


def best_region(found: Regions, mask: np.ndarray) -> float:
    """Dice of the region that an oracle would choose, at a few granularities."""
    scores = []
    for granularity in (0.2, 0.3, 0.4, 0.5):
        labels = found.labels(granularity)
        inside, size = np.bincount(labels[mask], minlength=256), np.bincount(labels.ravel(), minlength=256)
        scores.append((2 * inside / (size + mask.sum())).max())
    return float(max(scores))


def test_a_lung_is_one_region_at_some_granularity(shared_data: Path) -> None:
    with open(shared_data / "metadata.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "dev" and row["mask"]][::95]
    bundle = ModelBundle.from_pretrained()
    ours, grey = [], []
    for row in rows:
        mask = read_labels(shared_data / row["mask"])[0]
        observation = observe(bundle, Radiograph.read(shared_data / row["image"]), attention=True)
        nothing = torch.zeros(1, bundle.size, bundle.size)
        for lung in (1, 2):
            ours.append(best_region(regions_of(observation), mask == lung))
            grey.append(best_region(hierarchy(observation, nothing), mask == lung))
    assert np.mean(ours) > 0.75, f"mean Dice of {len(ours)} lungs: {np.mean(ours):.3f}"
    assert np.mean(ours) > np.mean(grey) + 0.02, f"{np.mean(ours):.3f}, from grey alone {np.mean(grey):.3f}"
