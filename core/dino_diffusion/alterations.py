"""Alterations of a model view and of the labels on it: what odd input does to a picture. Never a flip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class Alteration:
    """Drawn once, applied alike to a picture and to its labels.

    `matrix` maps output to input coordinates in [-1, 1] (torch's `affine_grid`); `gamma` and `noise` change
    grey values only. Never a negative: one is told and undone before anything else looks (`observe`).
    """

    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    gamma: float = 1.0
    noise: float = 0.0
    seed: int = 0

    def picture(self, pixels: torch.Tensor) -> torch.Tensor:
        """`(1, 1, H, W)` in [0, 1]; what comes in from outside is black, as beyond a collimator."""
        moved = self._move(pixels).clamp(0, 1) ** self.gamma
        if self.noise:
            generator = torch.Generator().manual_seed(self.seed)
            moved = (moved + self.noise * torch.randn(moved.shape, generator=generator)).clamp(0, 1)
        return moved

    def labels(self, maps: torch.Tensor) -> torch.Tensor:
        """`(1, C, h, w)` soft labels; outside is zero in every channel."""
        return self._move(maps)

    def _move(self, maps: torch.Tensor) -> torch.Tensor:
        grid = functional.affine_grid(torch.tensor([self.matrix]), list(maps.shape), align_corners=False)
        return functional.grid_sample(maps, grid, align_corners=False)


def draw_alteration(rng: np.random.Generator) -> Alteration:
    """Rotation to 20 degrees, zoom 0.75-1.2, squash to 1.25, shift to a tenth, gamma, noise."""
    angle = math.radians(rng.uniform(-20, 20))
    zoom, squash = 1 / rng.uniform(0.75, 1.2), math.sqrt(rng.uniform(0.8, 1.25))
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    shift = rng.uniform(-0.2, 0.2, 2)
    matrix = (
        (cos * squash, -sin * squash, float(shift[0])),
        (sin / squash, cos / squash, float(shift[1])),
    )
    return Alteration(
        matrix,
        gamma=float(np.exp(rng.uniform(math.log(0.6), math.log(1.7)))),
        noise=float(rng.choice([0.0, 0.0, rng.uniform(0, 0.05)])),
        seed=int(rng.integers(2**31)),
    )
