"""A small classifier of radiographs: EfficientNet-Lite0 from ImageNet, its upper blocks trained further.

With some dozens of images a network that starts from nothing learns nothing, so differences between sets of
images would not show; one that was trained on photographs is what people take in practice. Its lowest
blocks and every normalisation stay as they are: they know edges already, and some dozens of images are too
few for statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dino_diffusion.evaluation.features import load_efficientnet_lite0

SIDE = 128
"""Side of its pictures in pixels. Any multiple of 32 is padded as the network was trained."""

FROZEN_BLOCKS = 5
"""Of 16: a third of the time of a step, and hardly any of its weights."""

WIDTH, DROPOUT = 1280, 0.2
HEAD_RATE = 10.0
"""How much faster the new head learns than what is trained already."""

WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Pictures `(B, 1, S, S)` in [0, 1], or what `seen` makes of them, and labels `(B,)`, 1.0 for the class."""

Classifier = Callable[[], "nn.Module"]
"""Makes a network `(B, 1, S, S)` to logits `(B,)`; its `head` is new, the rest was trained before."""


class FineTuned(nn.Module):
    """Logits `(B,)` of grey pictures `(B, 1, S, S)` in [0, 1], or of what `frozen` makes of them.

    Raises EvaluationError, see `features`.
    """

    def __init__(self) -> None:
        super().__init__()
        # Depthwise convolutions are a quarter faster on a CPU with the channels last.
        self.trunk = load_efficientnet_lite0().to(memory_format=torch.channels_last)
        self.trunk.requires_grad_(False)
        for part in (*self.trunk._blocks[FROZEN_BLOCKS:], self.trunk._conv_head):
            part.requires_grad_(True)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(WIDTH, 1))

    def train(self, mode: bool = True) -> FineTuned:
        """Only the head knows training from use: normalisation keeps ImageNet's statistics."""
        self.head.train(mode)
        return self

    @torch.no_grad()
    def frozen(self, pictures: torch.Tensor) -> torch.Tensor:
        """What the part that never changes makes of pictures `(B, 1, S, S)`: `(B, C, S/8, S/8)`."""
        colour = (pictures * 2 - 1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        trunk = self.trunk
        maps = trunk._swish(trunk._bn0(trunk._conv_stem(colour)))
        for block in trunk._blocks[:FROZEN_BLOCKS]:
            maps = block(maps)
        return maps

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        trunk = self.trunk
        maps = self.frozen(given) if given.shape[1] == 1 else given
        for block in trunk._blocks[FROZEN_BLOCKS:]:
            maps = block(maps)
        return self.head(trunk._swish(trunk._bn1(trunk._conv_head(maps))).mean((2, 3)))[:, 0]


@dataclass(frozen=True)
class Rates:
    """AdamW's, chosen beforehand and not tuned on any test image."""

    learning: float = 3e-4
    decay: float = 0.01


def fit(network: nn.Module, batches: Iterable[Batch], steps: int, rates: Rates | None = None) -> None:
    """Trains `network` on `steps` batches: AdamW, a short warm-up, then a cosine down to nothing."""
    rates = rates or Rates()
    head = {id(p) for p in network.head.parameters()}  # type: ignore[union-attr]
    rest = [p for p in network.parameters() if id(p) not in head and p.requires_grad]
    groups = [
        {"params": rest, "lr": rates.learning},
        {"params": list(network.head.parameters()), "lr": rates.learning * HEAD_RATE},  # type: ignore[union-attr]
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=rates.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    network.train()
    device = next(network.parameters()).device
    for pictures, labels in batches:
        logits = network(pictures.to(device))
        loss = functional.binary_cross_entropy_with_logits(logits, labels.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()


def _rate(step: int, steps: int) -> float:
    rise = max(1, round(WARMUP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def seen(network: nn.Module, pictures: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """Pictures `(N, 1, S, S)` as far as `network` never changes (`frozen`), for every training of theirs; the
    pictures themselves where it has no such part. On the CPU."""
    if not isinstance(network, FineTuned):
        return pictures
    device = next(network.parameters()).device
    return torch.cat([network.frozen(part.to(device)).cpu() for part in pictures.split(batch)])


@torch.inference_mode()
def predict(network: nn.Module, pictures: torch.Tensor, batch: int = 32) -> np.ndarray:
    """Logits `(N,)` float64 of pictures `(N, 1, S, S)`, or of what `seen` makes of them."""
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(part.to(device)).cpu() for part in pictures.split(batch)]).double().numpy()
