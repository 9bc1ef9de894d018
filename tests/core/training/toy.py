"""A part that trains a few numbers: the loop without a network. Run as a program, it trains in a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dino_diffusion.training.loop import Step, train
from dino_diffusion.training.settings import RunSettings


class ToyPart:
    """Regression with dropout, so that its losses depend on torch's own random state as well."""

    parameter_groups: list[dict[str, Any]] | None = None

    def __init__(self, width: int = 4, out_of_memory_above: int | None = None) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(width, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.width, self.out_of_memory_above = width, out_of_memory_above
        self.losses_seen: list[float] = []
        self.sizes_seen: list[int] = []

    def batch(self, step: Step) -> dict[str, torch.Tensor]:
        x = torch.randn(8, self.width, generator=step.generator())
        return {"x": x, "y": x.sum(1, keepdim=True)}

    def losses(
        self, module: nn.Module, batch: dict[str, torch.Tensor], progress: float
    ) -> dict[str, torch.Tensor]:
        self.sizes_seen.append(len(batch["x"]))
        if self.out_of_memory_above is not None and len(batch["x"]) > self.out_of_memory_above:
            raise torch.cuda.OutOfMemoryError("simulated")
        loss = (module(batch["x"]) - batch["y"]).square().mean()
        self.losses_seen.append(float(loss.detach()))
        return {"loss": loss}

    def after_step(self, module: nn.Module, progress: float) -> None:
        pass

    def validate(self, module: nn.Module, device: torch.device) -> dict[str, float]:
        return {"weight": float(module[0].weight.sum())}

    def picture(self, module: nn.Module, device: torch.device, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")

    def save(self, module: nn.Module, folder: Path) -> None:
        folder.mkdir(exist_ok=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    part = ToyPart(width=20_000)
    every = int(sys.argv[2])
    run = RunSettings(
        folder=sys.argv[1], steps=100_000, checkpoint_every=every, validate_every=7, picture_every=10**6
    )
    train(part, run, run, quiet=True)
