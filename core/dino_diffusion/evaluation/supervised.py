"""The upper reference: a small U-Net that learns from the masks themselves, by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet

from dino_diffusion.alterations import draw_alteration
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.lungs import keep_largest, labels_of
from dino_diffusion.training.stream import EpochStream


@dataclass(frozen=True)
class UNetSettings:
    """`size`: side of its picture in pixels; `widths` as BasicUNet takes them."""

    size: int = 128
    widths: tuple[int, int, int, int, int, int] = (16, 32, 64, 96, 128, 16)
    steps: int = 300
    batch: int = 12
    lr: float = 3e-3
    seed: int = 0


def train_unet(
    pictures: torch.Tensor,
    masks: torch.Tensor,
    settings: UNetSettings,
    advance: Callable[[int], None] = lambda steps: None,
) -> torch.nn.Module:
    """A U-Net trained on `pictures` (N, 1, S, S) in [0, 1] and `masks` (N, 3, S, S), on their device.

    Pictures are altered as in the training of the label-free read-out (rotation, zoom, squash, shift, gamma,
    noise, inversion), masks alike. `advance` is called after every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = BasicUNet(spatial_dims=2, in_channels=1, out_channels=3, features=settings.widths)
    net = net.to(pictures.device).train()
    rng = np.random.default_rng(settings.seed)
    stream = EpochStream([""] * len(pictures), settings.seed)
    loss_of = DiceCELoss(softmax=True)
    optimiser = torch.optim.AdamW(net.parameters(), settings.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, settings.steps)
    for step in range(settings.steps):
        inputs, targets = [], []
        for index in stream.batch(step, settings.batch):
            alteration = draw_alteration(rng)
            inputs.append(alteration.picture(pictures[index][None].cpu()))
            target = alteration.labels(masks[index][None].cpu())
            target[:, 0] = 1 - target[:, 1:].sum(1)  # what came in from outside
            targets.append(target)
        loss = loss_of(net(torch.cat(inputs).to(pictures.device)), torch.cat(targets).to(pictures.device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        advance(1)
    return net.eval().requires_grad_(False)


def unet_lungs(net: torch.nn.Module, radiograph: Radiograph, size: int) -> np.ndarray:
    """Labels `(H, W)` uint8 on the radiograph's grid; of each lung the largest region stays."""
    view = radiograph.model_view(size)
    device = next(net.parameters()).device
    with torch.inference_mode():
        lungs = net(view.pixels.to(device)).softmax(1)[0, 1:].cpu().numpy()
    return labels_of(view, keep_largest(lungs))


def folds_of(patients: Sequence[str], folds: int) -> np.ndarray:
    """Fold number of each image; all images of a patient share one, and neighbours in the list do not."""
    number = {patient: index for index, patient in enumerate(dict.fromkeys(patients))}
    return np.array([number[patient] % folds for patient in patients])
