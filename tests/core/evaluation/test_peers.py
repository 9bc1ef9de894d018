"""What needs no model and what needs labels: the intensity threshold and the supervised U-Net."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dino_diffusion.evaluation.ablations import cells_of
from dino_diffusion.evaluation.overlap import mean_dice
from dino_diffusion.evaluation.supervised import UNetSettings, folds_of, train_unet, unet_lungs
from dino_diffusion.evaluation.threshold import threshold_lungs
from dino_diffusion.radiograph import Radiograph


def chest(seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A bright body in black air with two dark ellipses in it, and their labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] / size
    labels = np.zeros((size, size), np.uint8)
    for value, x in ((1, 0.3), (2, 0.7)):
        x, y, wide, high = rng.uniform(-0.03, 0.03, 4) + np.array([x, 0.5, 0.13, 0.28])
        labels[((columns - x) / wide) ** 2 + ((rows - y) / high) ** 2 < 1] = value
    body = (columns > 0.05) & (columns < 0.95) & (rows > 0.05)
    picture = np.where(labels > 0, 0.35, 0.8) * body + rng.normal(0, 0.02, (size, size))
    return gaussian_filter(picture, 0.7).clip(0, 1).astype(np.float32), labels


def test_two_dark_regions_of_the_body_are_the_lungs() -> None:
    picture, labels = chest(0)
    assert mean_dice(threshold_lungs(picture), labels) > 0.9


@pytest.mark.parametrize("picture", [np.zeros((20, 30)), np.eye(20), np.indices((20, 20))[0] / 20.0])
def test_a_picture_without_lungs_gets_labels_too(picture: np.ndarray) -> None:
    labels = threshold_lungs(picture.astype(np.float32))
    assert labels.shape == picture.shape and set(np.unique(labels)) <= {0, 1, 2}


def test_unet_learns_from_masks() -> None:
    cases = [chest(seed) for seed in range(12)]
    pictures = torch.cat([Radiograph.from_array(p).model_view(32).pixels for p, _ in cases])
    masks = torch.cat([cells_of(labels[::2, ::2]) for _, labels in cases])
    settings = UNetSettings(size=32, widths=(8, 8, 8, 16, 16, 8), steps=40, batch=4, lr=1e-2)
    steps: list[int] = []
    net = train_unet(pictures, masks, settings, steps.append)
    assert sum(steps) == 40
    picture, reference = chest(99)
    radiograph = Radiograph.from_array(np.pad(picture, ((0, 0), (8, 8))))
    labels = unet_lungs(net, radiograph, 32)
    assert labels.shape == (64, 80)
    assert mean_dice(labels, np.pad(reference, ((0, 0), (8, 8)))) > 0.75


def test_training_again_gives_the_same_network() -> None:
    pictures, masks = torch.rand(4, 1, 32, 32), torch.rand(4, 3, 32, 32).softmax(1)
    settings = UNetSettings(size=32, widths=(8, 8, 8, 8, 8, 8), steps=2, batch=2)
    first, second = (train_unet(pictures, masks, settings).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_patient_is_in_two_folds() -> None:
    patients = ["a", "a", "b", "c", "b", "d", "e"]
    fold = folds_of(patients, 3)
    for patient in set(patients):
        assert len({int(f) for f, p in zip(fold, patients, strict=True) if p == patient}) == 1
    assert sorted(set(fold.tolist())) == [0, 1, 2]
