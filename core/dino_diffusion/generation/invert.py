"""Textual inversion: what radiographs have in common, learnt as a few vectors of a frozen bundle.

Gal et al., ICLR 2023 (arXiv 2208.01618): nothing of the model moves; the vectors alone are optimised until
the model denoises the given pictures best.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_diffusion.errors import ConceptError
from dino_diffusion.generation.concept import ENDING, MOST_VECTORS, Concept
from dino_diffusion.generation.conditioning import mean_of
from dino_diffusion.generation.inversion import ConceptPart, InversionSettings
from dino_diffusion.generation.recipe import hash_of_set
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.training.latents import LatentCache, list_views, load_cache, prepare
from dino_diffusion.training.loop import make_accelerator, train
from dino_diffusion.training.settings import RunSettings

DEFAULT_VECTORS, DEFAULT_STEPS = 8, 150
BATCH = 8
LEARNING_RATE = 0.04
"""Tokens leave a LayerNorm, so their numbers are of order one whatever the bundle."""

VIEWS_IN_ALL, FEWEST_VIEWS, MOST_VIEWS = 300, 2, 8
"""As many views of each radiograph, the whole and crops, as make about this many in all."""

Callback = Callable[[int, int, float | None], bool | None]
"""`(steps done, steps in all, loss)` after each step; returning False ends the run with Cancelled."""


@dataclass(frozen=True)
class Picture:
    """A radiograph to learn from: known by its content, read when it is needed."""

    key: str
    source: Path | Radiograph

    @classmethod
    def of(cls, source: str | Path | Radiograph) -> Picture:
        """Raises RadiographError for what is not a radiograph."""
        source = source if isinstance(source, Radiograph) else Path(source)
        return cls(_opened(source).source.sha256, source)

    def read(self) -> np.ndarray:
        """Grey pixels `(H, W)` float32 in [0, 1]."""
        return _opened(self.source).pixels


def _opened(source: Path | Radiograph) -> Radiograph:
    return source if isinstance(source, Radiograph) else Radiograph.read(source)


def invert(
    bundle: ModelBundle,
    pictures: Sequence[str | Path | Radiograph],
    name: str,
    vectors: int = DEFAULT_VECTORS,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    callback: Callback | None = None,
    folder: str | Path | None = None,
    **about: Any,
) -> Concept:
    """Learns the concept that `pictures` (paths or radiographs) have in common, as `vectors` vectors.

    `folder` keeps what was prepared and the checkpoint, so that the same call goes on where it was stopped;
    None works in a temporary folder. `about`: `licence`, `source`, `description` and `code` of the `Concept`.
    The same pictures, settings and seed give the same concept on the same machine.
    Raises ConceptError for impossible settings, RadiographError for a picture that cannot be read,
    ConfigurationError for a folder that holds another run, Cancelled when the callback says so.
    """
    if not 1 <= vectors <= MOST_VECTORS or steps < 1 or not pictures:
        raise ConceptError(
            f"Cannot learn {vectors} vectors from {len(pictures)} pictures in {steps} steps; ask for 1 to "
            f"{MOST_VECTORS} vectors, and give at least one picture and one step."
        )
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="dino-diffusion-") as temporary:
            return invert(bundle, pictures, name, vectors, steps, seed, callback, temporary, **about)
    # An impossible name is refused before the work.
    mean_of(bundle, torch.zeros(1, bundle.encoder.cls_width), name, **about)
    read = [Picture.of(picture) for picture in pictures]
    views = int(np.clip(VIEWS_IN_ALL // len(read), FEWEST_VIEWS, MOST_VIEWS))
    latents = Path(folder) / "latents"
    prepare(
        latents,
        read,
        list_views(read, views, np.arange(len(read))),
        (bundle.size,),
        bundle.encoder,
        bundle.autoencoder,
        seed,
        bundle.device,
        quiet=True,
    )
    about |= {"data_sha256": hash_of_set(picture.key for picture in read)}
    settings = InversionSettings(vectors, views, run=run_settings(Path(folder), steps, seed))
    return learn(bundle, load_cache(latents, (bundle.size,)), name, settings, about, callback)


def learn(
    bundle: ModelBundle,
    cache: LatentCache,
    name: str,
    settings: InversionSettings,
    about: dict[str, Any],
    callback: Callback | None = None,
) -> Concept:
    """`invert` from prepared views. `about`: fields of `Concept`."""
    run = settings.run

    def tell(step: int, loss: float | None) -> bool | None:
        return callback(step, run.steps, loss) if callback else None

    part = ConceptPart(bundle, cache, name, settings, about)
    accelerator = make_accelerator(cpu=bundle.device.type == "cpu")
    train(part, run, settings, quiet=True, accelerator=accelerator, callback=tell)
    return Concept.load(Path(run.folder) / "weights" / f"{name}{ENDING}")


def run_settings(
    folder: Path, steps: int, seed: int, batch: int = BATCH, lr: float = LEARNING_RATE
) -> RunSettings:
    """How the vectors are optimised."""
    return RunSettings(
        folder=str(folder),
        seed=seed,
        steps=steps,
        batch=batch,
        lr=lr,
        warmup=10,
        weight_decay=0.0,
        ema=0.95,
        checkpoint_every=25,
        validate_every=steps + 1,
        picture_every=steps + 1,
    )
