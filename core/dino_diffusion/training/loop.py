"""The training loop every part shares: accelerate, schedule, EMA, checkpoints, log, progress.

A part (autoencoder, encoder, denoiser) says what a batch, its losses, a validation and a picture are; the
loop does the rest. A kill at any moment loses at most what was done since the last checkpoint. Everything
random in a step follows from (seed, step, process), so a resumed run that ends by `steps` repeats the
uninterrupted one; a run that ends by `minutes` follows the clock and does not.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from dino_diffusion.device import choose_device, has_bf16
from dino_diffusion.errors import Cancelled, ConfigurationError
from dino_diffusion.training.batches import Batch
from dino_diffusion.training.checkpoint import describe, load_checkpoint, record, save_checkpoint
from dino_diffusion.training.ema import Ema
from dino_diffusion.training.settings import RunSettings

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)

RECORD_EVERY = 50
LOOK_EVERY = 10
"""Steps between looks at the loss on a GPU: each look waits for the device."""


Callback = Callable[[int, float | None], bool | None]
"""`(steps done, loss)` after each step. Returning False ends the run there; it can be resumed."""


@dataclass(frozen=True)
class Step:
    """Where in its run a process is. `progress` runs from 0 to 1 over the run, by steps or by the clock."""

    number: int
    progress: float
    rank: int
    processes: int
    device: torch.device
    seed: int

    def random_seed(self, *more: int) -> int:
        """A seed that belongs to (seed, step, process, `more`) alone."""
        entropy = (self.seed, self.number, self.rank, *more)
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)

    def generator(self) -> torch.Generator:
        """Randomness of this step, on its device."""
        return torch.Generator(self.device).manual_seed(self.random_seed())


class Part(Protocol[Module]):
    """What the loop needs of a part. `parameter_groups`: the optimiser's, None for all with one rate."""

    parameter_groups: list[dict[str, Any]] | None

    @property
    def module(self) -> Module:
        """Holds every weight that is trained."""

    def batch(self, step: Step) -> Batch:
        """This process's batch at `step`, on any device; the loop may cut it along the first axis."""

    def losses(self, module: nn.Module, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        """Mean losses of a batch; `loss` is what is minimised. `module` may be wrapped for many processes."""

    def after_step(self, module: Module, progress: float) -> None:
        """Called once the weights have moved."""

    def validate(self, module: Module, device: torch.device) -> dict[str, float]:
        """Figures on held-out images, with the averaged weights."""

    def picture(self, module: Module, device: torch.device, path: Path) -> None:
        """Saves a picture a person can judge the run by."""

    def save(self, module: Module, folder: Path) -> None:
        """Writes the averaged weights as the part's folder of a bundle."""


def make_accelerator(cpu: bool = False) -> Accelerator:
    """bf16 where the device computes in it (1.6 times as fast on a CPU that does), fp16 on older GPUs.

    `cpu` leaves a GPU alone that is there.
    """
    device = torch.device("cpu" if cpu else choose_device().type)
    other = "no" if device.type == "cpu" else "fp16"
    return Accelerator(mixed_precision="bf16" if has_bf16(device) else other, cpu=cpu)


def train(
    part: Part[Any],
    run: RunSettings,
    settings: Any,
    quiet: bool = False,
    accelerator: Accelerator | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Runs `part` to the end of `run`, resuming from its folder's checkpoint. Returns the last figures.

    Raises ConfigurationError for a checkpoint that is damaged or of other settings, a loss that is no
    number, and a batch that no GPU memory holds; Cancelled when the callback says so.
    """
    training = Training(part, run, accelerator or make_accelerator())
    if training.main:
        describe(training.folder, settings, training.device)
    training.resume()
    with tqdm(
        desc=training.folder.name,
        total=run.steps,
        initial=training.step,
        disable=quiet or not training.main,
        mininterval=0.5,
    ) as bar:
        while (progress := training.progress()) < 1:
            training.advance(progress)
            bar.update()
            if training.loss is not None:
                bar.set_postfix_str(f"loss {training.loss:.4f}, {progress:.0%} of the run", refresh=False)
            if callback is not None and callback(training.step, training.loss) is False:
                training.checkpoint()
                raise Cancelled(
                    f"{training.folder}: stopped after step {training.step}; the same command goes on there."
                )
    return training.finish()


class Training:
    """The state of one run: weights, their average, the optimiser, the clock."""

    def __init__(self, part: Part[Any], run: RunSettings, accelerator: Accelerator) -> None:
        self.part, self.run, self.accelerator = part, run, accelerator
        self.folder, self.device = Path(run.folder), accelerator.device
        self.main = accelerator.is_main_process
        if self.device.type == "cuda":
            part.module.to(memory_format=torch.channels_last)
        # Copied before accelerate wraps the module: validation is in full precision.
        self.averaged = copy.deepcopy(part.module).to(self.device).eval().requires_grad_(False)
        groups = part.parameter_groups or [
            {"params": [p for p in part.module.parameters() if p.requires_grad]}
        ]
        optimiser = torch.optim.AdamW(
            groups,
            lr=run.lr,
            weight_decay=run.weight_decay,
            betas=(0.9, 0.99),
            fused=self.device.type == "cuda",
        )
        for group in optimiser.param_groups:
            group["scale"] = group["lr"] / run.lr
        self.module, self.optimiser = accelerator.prepare(part.module, optimiser)
        self.bare = accelerator.unwrap_model(self.module)
        if run.compile:
            self.bare.compile(dynamic=False)
        self.ema = Ema(self.bare, run.ema)
        self.step, self.pieces = 0, 1
        self.figures: dict[str, float] = {}
        self.loss: float | None = None
        self.began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds spent training, those before an interruption included."""
        return time.monotonic() - self.began

    def resume(self) -> None:
        """Goes on from the folder's checkpoint, if there is one."""
        state = load_checkpoint(self.folder, self.device)
        if state is None:
            return
        try:
            self.bare.load_state_dict(state["module"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.ema.shadow = state["ema"]
            self.step, self.figures = state["step"], state["figures"]
            self.began = time.monotonic() - state["elapsed"]
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"{self.folder}: the checkpoint there belongs to other settings "
                f"({str(error).splitlines()[0]}); name another run.folder or delete it."
            ) from error
        log.info("resuming %s at step %d", self.folder, self.step)

    def progress(self) -> float:
        """Share of the run that is over, by steps or by the clock, the same in all processes."""
        share = self.step / self.run.steps if self.run.steps else 1.0
        if self.run.minutes is not None:
            share = max(share, self.elapsed / (60 * self.run.minutes))
            if self.accelerator.num_processes > 1:
                clock = torch.tensor([share], device=self.device)
                share = float(self.accelerator.reduce(clock, "sum").item()) / self.accelerator.num_processes
        return share

    def advance(self, progress: float) -> None:
        """One optimiser step, and whatever is due after it."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.run.lr * group["scale"] * schedule(self.step, progress, self.run.warmup)
        here = self.accelerator
        step = Step(self.step, progress, here.process_index, here.num_processes, self.device, self.run.seed)
        self.module.train()
        losses = self._backward(step)
        here.clip_grad_norm_(self.module.parameters(), self.run.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.update(self.bare, self.step)
        self.part.after_step(self.bare, progress)
        self.step += 1
        if self._due(self.run.checkpoint_every) or self.device.type != "cuda" or self._due(LOOK_EVERY):
            self.loss = self._checked(losses["loss"])
        if self.main:
            self._report(losses)

    def _due(self, every: int) -> bool:
        return self.step % every == 0

    def _checked(self, loss: torch.Tensor) -> float:
        value = float(loss)
        if not math.isfinite(value):
            raise ConfigurationError(
                f"{self.folder}: the loss is {value} at step {self.step}; lower run.lr and start again."
            )
        return value

    def _report(self, losses: dict[str, torch.Tensor]) -> None:
        if self._due(RECORD_EVERY):
            record(
                self.folder, self.step, self.elapsed, {name: float(value) for name, value in losses.items()}
            )
        if self._due(self.run.validate_every):
            self._validate()
        if self._due(self.run.picture_every):
            self._picture()
        if self._due(self.run.checkpoint_every):
            self.checkpoint()

    def _backward(self, step: Step) -> dict[str, torch.Tensor]:
        """Gradients of this step's batch, in as many pieces as the memory asks for."""
        batch = {name: self._place(value) for name, value in self.part.batch(step).items()}
        while True:
            with contextlib.suppress(torch.cuda.OutOfMemoryError):
                return self._accumulate(batch, step)
            self._halve(len(next(iter(batch.values()))))

    def _place(self, value: torch.Tensor) -> torch.Tensor:
        value = value.to(self.device, non_blocking=True)
        images = self.device.type == "cuda" and value.ndim == 4
        return value.contiguous(memory_format=torch.channels_last) if images else value

    def _accumulate(self, batch: Batch, step: Step) -> dict[str, torch.Tensor]:
        total: dict[str, torch.Tensor] = {}
        pieces = list(_cut(batch, self.pieces))
        for number, (piece, share) in enumerate(pieces, start=1):
            # What a module draws by itself (a posterior's sample) follows from the step, too.
            torch.manual_seed(step.random_seed(number))
            last = number == len(pieces)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.module):
                with self.accelerator.autocast():
                    losses = self.part.losses(self.module, piece, step.progress)
                self.accelerator.backward(losses["loss"] * share)
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() * share
        return total

    def _halve(self, batch: int) -> None:
        """After running out of memory: more pieces from now on; the batch as a whole stays what it was."""
        self.optimiser.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.accelerator.num_processes > 1 or self.pieces >= batch:
            raise ConfigurationError(
                f"{self.folder}: no GPU memory for a batch of {batch}; lower run.batch, now {self.run.batch}."
            )
        self.pieces = min(2 * self.pieces, batch)
        log.warning("out of memory: a batch of %d is now trained in %d pieces", batch, self.pieces)

    def _validate(self) -> None:
        self.ema.copy_to(self.averaged)
        self.figures = self.part.validate(self.averaged, self.device)
        record(self.folder, self.step, self.elapsed, self.figures)

    def _picture(self) -> None:
        self.ema.copy_to(self.averaged)
        self.part.picture(self.averaged, self.device, self.folder / "pictures" / f"{self.step:07d}.png")

    def checkpoint(self) -> None:
        """Saves all that a resumed run needs."""
        state = {
            "module": self.bare.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.shadow,
            "step": self.step,
            "elapsed": self.elapsed,
            "figures": self.figures,
        }
        save_checkpoint(self.folder, state)

    def finish(self) -> dict[str, Any]:
        """The last validation, picture and checkpoint, and the part's weights."""
        hours = self.elapsed / 3600
        self.accelerator.wait_for_everyone()
        if self.main:
            self.checkpoint()
            self._validate()
            self._picture()
            self.part.save(self.averaged, self.folder / "weights")
        self.accelerator.wait_for_everyone()
        return {"steps": self.step, "hours": hours, **self.figures}


def schedule(step: int, progress: float, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then a cosine to 0 at `progress` 1."""
    return min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _cut(batch: Batch, pieces: int) -> Iterator[tuple[Batch, float]]:
    """The batch in `pieces` along the first axis, each with its share of the whole."""
    count = len(next(iter(batch.values())))
    columns = {name: value.chunk(pieces) for name, value in batch.items()}
    for number in range(len(next(iter(columns.values())))):
        piece = {name: column[number] for name, column in columns.items()}
        yield piece, len(next(iter(piece.values()))) / count
