"""Clocks of the benchmarks: median times, and the denoiser pass that they are multiples of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` calls after one that warms up. Every task ends on the CPU, so a GPU is done too."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def denoiser_pass(bundle: ModelBundle) -> Callable[[], None]:
    """One pass of one picture, without guidance."""
    import torch

    from dino_diffusion.device import inference
    from dino_diffusion.models import Frame

    frames = torch.tensor([Frame(size=bundle.size).numbers()], device=bundle.device)
    latents = torch.zeros(1, *bundle.latent_shape, device=bundle.device)
    t = torch.full((1,), 0.5, device=bundle.device)
    condition = bundle.denoiser.condition(bundle.prior.sample(1, torch.Generator().manual_seed(0)), frames)

    def one_pass() -> None:
        with inference(bundle.device):
            bundle.denoiser(latents, t, condition).sum().item()

    return one_pass
