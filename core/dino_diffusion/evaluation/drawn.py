"""Generated radiographs kept on disk as they are made, so that a long draw can be stopped and shared.

Several processes that ask for the same pictures make each of them once: a block that another one is at work
on is skipped, and waited for in the end. The system frees the lock of a process that died.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file

from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.generation.embedding import ImageClass, TokenSource
from dino_diffusion.generation.sampled import (
    BATCH_ON_GPU,
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    GUIDANCE_INTERVAL,
)
from dino_diffusion.generation.variants import Variation, generate
from dino_diffusion.models import ModelBundle

BLOCK = BATCH_ON_GPU
"""Pictures of one file; always the same ones, so that a draw of more goes on from a draw of fewer."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Drawing:
    """How to draw; by default as a user gets it without asking.

    guidance_interval: flow times in [0, 1] between which `guidance` acts. conditions: what `drawn` calls
    where the tokens come from, "" for the bundle's prior.
    """

    seed: int = 0
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    sampler: str = DEFAULT_SAMPLER
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL
    conditions: str = ""

    def folder(self, work: Path, bundle: ModelBundle) -> Path:
        """Where its pictures are kept below `work`; no other bundle's and no other settings' lie there."""
        text = json.dumps({"bundle": bundle.id, **asdict(self)}, sort_keys=True)
        return work / f"drawn-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def drawn(
    bundle: ModelBundle,
    count: int,
    drawing: Drawing,
    work: Path | None = None,
    advance: Advance = lambda count: None,
    tokens: TokenSource | None = None,
) -> torch.Tensor:
    """The first `count` pictures `(count, 1, S, S)` in [0, 1], float32; kept below `work`, if that is named.

    `tokens` instead of the prior's; the drawing's `conditions` then name them. `advance` hears of pictures as
    they are there. Raises what `generate` raises.
    """
    like = None if tokens is None else Variation(image_class=ImageClass(tokens, drawing.conditions))
    blocks = range(-(-count // BLOCK))
    if work is None:
        sizes = [min(BLOCK, count - block * BLOCK) for block in blocks]
        return torch.cat([_made(bundle, drawing, like, *block, advance) for block in enumerate(sizes)])
    folder = drawing.folder(work, bundle)
    folder.mkdir(parents=True, exist_ok=True)
    busy = [block for block in blocks if not _keep(bundle, drawing, like, folder, block, advance, wait=False)]
    for block in busy:
        _keep(bundle, drawing, like, folder, block, advance, wait=True)
    return torch.cat([load_file(_file(folder, block))["pictures"] for block in blocks])[:count]


def _keep(
    bundle: ModelBundle,
    drawing: Drawing,
    like: Variation | None,
    folder: Path,
    block: int,
    advance: Advance,
    wait: bool,
) -> bool:
    """Makes a block unless it is there; False if another process is at work on it and this shall not wait."""
    path = _file(folder, block)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=-1 if wait else 0):
            if path.exists():
                advance(BLOCK)
                return True
            pictures = _made(bundle, drawing, like, block, BLOCK, advance)
            with atomic_path(path) as temporary:
                save_file({"pictures": pictures}, temporary)
    except Timeout:
        return False
    return True


def _made(
    bundle: ModelBundle, drawing: Drawing, like: Variation | None, block: int, count: int, advance: Advance
) -> torch.Tensor:
    made = generate(
        bundle,
        count,
        like,
        seed=drawing.seed,
        steps=drawing.steps,
        guidance=drawing.guidance,
        sampler=drawing.sampler,
        first=block * BLOCK,
        guidance_interval=drawing.guidance_interval,
    )
    advance(count)
    return torch.from_numpy(np.stack([item.pixels for item in made]))[:, None]


def _file(folder: Path, block: int) -> Path:
    return folder / f"{block:05d}.safetensors"
