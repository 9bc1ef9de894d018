"""Where and how precisely to compute."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from dino_diffusion.errors import ConfigurationError

Result = TypeVar("Result")


def choose_device(name: str | None = None) -> torch.device:
    """The named device, else the first GPU, else the CPU. Raises ConfigurationError if it is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigurationError(
            f"Device '{name}' is not usable here; use one of {', '.join(known)}."
        ) from error
    return device


def device_name(device: torch.device) -> str:
    """The GPU's model, or the CPU's with the number of threads: what rounding depends on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


@contextlib.contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """No gradients; fp32 on the CPU, bf16 on a GPU, fp16 where a GPU has no bf16."""
    with torch.inference_mode():
        if device.type != "cuda":
            yield
            return
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        with torch.autocast("cuda", dtype):
            yield


def in_batches(count: int, work: Callable[[int, int], Result], most: int = 8) -> list[Result]:
    """`work(start, stop)` over `count` items, `most` at a time, fewer where a GPU's memory is too small.

    Out of memory with a single item is raised as it comes.
    """
    results: list[Result] = []
    start, size = 0, most
    while start < count:
        stop = min(count, start + size)
        try:
            results.append(work(start, stop))
            start = stop
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            size = max(1, size // 2)
            torch.cuda.empty_cache()
    return results
