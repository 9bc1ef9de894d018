"""The training loop every part shares: accelerate, schedule, EMA, checkpoints, log, progress.

A part (autoencoder, encoder, denoiser) says what a step, a validation and a picture are; the loop does
the rest. A kill at any moment loses at most what was done since the last checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from dino_diffusion.training.ema import Ema
from dino_diffusion.training.settings import RunSettings

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


class Part(Protocol):
    """What the loop needs of a part. `module` holds every weight that is trained."""

    module: nn.Module
    parameter_groups: list[dict[str, Any]] | None

    def step(
        self, module: nn.Module, step: int, progress: float, rank: int, processes: int, device: torch.device
    ) -> dict[str, torch.Tensor]:
        """Losses of one batch; `loss` is what is minimised. `progress` runs from 0 to 1 over the run."""

    def validate(self, module: nn.Module, device: torch.device) -> dict[str, float]:
        """Figures on held-out images, with the averaged weights."""

    def picture(self, module: nn.Module, device: torch.device, path: Path) -> None:
        """Saves a picture a person can judge the run by."""

    def save(self, module: nn.Module, folder: Path) -> None:
        """Writes the averaged weights as the part's folder of a bundle."""


def train(part: Part, run: RunSettings, settings: Any, quiet: bool = False) -> dict[str, Any]:
    """Runs `part` to the end of `run`, resuming from its folder's checkpoint. Returns the last figures."""
    folder = Path(run.folder)
    accelerator = Accelerator(mixed_precision=_precision(), gradient_accumulation_steps=1)
    torch.manual_seed(run.seed + accelerator.process_index)
    groups = part.parameter_groups or [{"params": [p for p in part.module.parameters() if p.requires_grad]}]
    optimiser = torch.optim.AdamW(groups, lr=run.lr, weight_decay=run.weight_decay, betas=(0.9, 0.99))
    for group in optimiser.param_groups:
        group["scale"] = group["lr"] / run.lr
    module, optimiser = accelerator.prepare(part.module, optimiser)
    bare = accelerator.unwrap_model(module)
    ema = Ema(bare, run.ema)
    start, elapsed, figures = 0, 0.0, {}
    if accelerator.is_main_process:
        _describe(folder, settings)
    if (folder / CHECKPOINT).exists():
        state = torch.load(folder / CHECKPOINT, map_location=accelerator.device, weights_only=True)
        bare.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        ema.shadow = state["ema"]
        start, elapsed, figures = state["step"], state["elapsed"], state["figures"]
        log.info("resuming %s at step %d", folder, start)

    averaged = _twin(bare)
    began = time.monotonic() - elapsed
    with _progress(quiet or not accelerator.is_main_process) as bar:
        task = bar.add_task(folder.name, total=run.steps, completed=start, figures="")
        step = start
        while step < run.steps:
            done = _fraction(step, run, time.monotonic() - began, accelerator)
            if done >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = run.lr * group["scale"] * schedule(step, done, run.warmup)
            module.train()
            with accelerator.autocast():
                losses = part.step(
                    module, step, done, accelerator.process_index, accelerator.num_processes, accelerator.device
                )
            accelerator.backward(losses["loss"])
            accelerator.clip_grad_norm_(module.parameters(), run.gradient_clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            ema.update(bare, step)
            step += 1
            bar.update(task, completed=step, figures=f"loss {losses['loss'].item():.4f}")
            if not accelerator.is_main_process:
                continue
            if step % 50 == 0:
                _record(folder, step, time.monotonic() - began, {n: v.item() for n, v in losses.items()})
            if step % run.validate_every == 0:
                ema.copy_to(averaged)
                figures = part.validate(averaged, accelerator.device)
                _record(folder, step, time.monotonic() - began, figures)
            if step % run.picture_every == 0:
                ema.copy_to(averaged)
                part.picture(averaged, accelerator.device, folder / "pictures" / f"{step:07d}.png")
            if step % run.checkpoint_every == 0:
                _save_checkpoint(folder, bare, optimiser, ema, step, time.monotonic() - began, figures)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        ema.copy_to(averaged)
        figures = part.validate(averaged, accelerator.device)
        _record(folder, step, time.monotonic() - began, figures)
        part.picture(averaged, accelerator.device, folder / "pictures" / f"{step:07d}.png")
        _save_checkpoint(folder, bare, optimiser, ema, step, time.monotonic() - began, figures)
        part.save(averaged, folder / "weights")
    accelerator.wait_for_everyone()
    return {"steps": step, "hours": (time.monotonic() - began) / 3600, **figures}


def schedule(step: int, progress: float, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then a cosine to 0 at `progress` 1."""
    return min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _fraction(step: int, run: RunSettings, seconds: float, accelerator: Accelerator) -> float:
    """Share of the run that is over, by steps or by the clock, the same in all processes."""
    share = step / run.steps
    if run.minutes is not None:
        share = max(share, seconds / (60 * run.minutes))
        if accelerator.num_processes > 1:
            clock = torch.tensor([share], device=accelerator.device)
            share = float(accelerator.reduce(clock, "sum").item()) / accelerator.num_processes
    return share


def _precision() -> str:
    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _twin(module: nn.Module) -> nn.Module:
    """A copy that holds averaged weights for validation and saving."""
    import copy

    return copy.deepcopy(module).eval().requires_grad_(False)


def _save_checkpoint(
    folder: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: Ema,
    step: int,
    elapsed: float,
    figures: dict[str, float],
) -> None:
    state = {
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "ema": ema.shadow,
        "step": step,
        "elapsed": elapsed,
        "figures": figures,
    }
    partial = folder / f"{CHECKPOINT}.partial"
    torch.save(state, partial)
    os.replace(partial, folder / CHECKPOINT)


def _describe(folder: Path, settings: Any) -> None:
    """Run folder with the settings and the code's git state."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    command = ["git", "describe", "--always", "--dirty"]
    git = shutil.which("git") and subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    ).stdout.strip()
    about = {"settings": dataclasses.asdict(settings), "git": git or "unknown", "torch": torch.__version__}
    (folder / "run.json").write_text(json.dumps(about, indent=1) + "\n")


def _record(folder: Path, step: int, seconds: float, figures: dict[str, float]) -> None:
    line = {"step": step, "seconds": round(seconds, 1), **{n: round(v, 5) for n, v in figures.items()}}
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def _progress(hidden: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[figures]}"), disable=hidden)
