"""The rows of `ablations.py`: what each changes, and how it is trained and measured."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_measures import likeness, lung_auc, lung_cells, passes, pictures, sampled
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dino_diffusion.device import choose_device, inference
from dino_diffusion.evaluation import EvaluationError, evenly
from dino_diffusion.evaluation.distribution import kernel_distance
from dino_diffusion.evaluation.features import EfficientNetLite0Features, extract
from dino_diffusion.evaluation.release import list_rows
from dino_diffusion.models import Autoencoder, Denoiser, ModelBundle
from dino_diffusion.models.encoder import EncoderOutput
from dino_diffusion.models.storage import load_part
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.latents import LatentCache, load_cache
from dino_diffusion.training.run import train_part
from dino_diffusion.training.settings import DenoiserSettings, load_settings, recipe_path

BATCH = 16
NEVER = 1_000_000


@dataclass(frozen=True)
class Row:
    """What is `changed`, in words and as settings of the recipe; `channels`: of the latents, None for all."""

    changed: str
    settings: dict[str, Any] = field(default_factory=dict)
    channels: int | None = None


ROWS = {
    "base": Row("nothing"),
    "cls": Row("CLS token alone, no patch tokens", {"token_grid": 0}),
    "unaligned": Row("no representation alignment", {"alignment": 0.0}),
    "4-channels": Row("4 latent channels", channels=4),
    "base-again": Row("the seed alone", {"run.seed": 2}),
    "wider": Row("widths 64/128/160", {"block_out_channels": [64, 128, 160]}),
}


@dataclass
class Bench:
    """What all rows share. `common`: what they all change of the recipe, by dotted names."""

    bundle: ModelBundle
    data: Path
    work: Path
    recipe: str
    common: dict[str, Any]
    samples: int
    masks: int

    @classmethod
    def of(cls, options: argparse.Namespace) -> Bench:
        """What the command line's options describe. Raises DinoDiffusionError."""
        bundle = ModelBundle.from_pretrained(options.bundle, choose_device())
        if bundle.autoencoder.encoder is not None:
            raise EvaluationError(
                "Only latents of a linear encoder can do without their last channels; name a bundle whose "
                "autoencoder has residual_encoder = false."
            )
        common: dict[str, Any] = {
            "sizes": [options.size],
            "size_shares": [1.0],
            "batch_factors": [1.0],
            "views": 1,
            "data.path": str(options.data),
            "data.splits": ["train"],
            "data.holdout": ["holdout"],
            "data.limit": options.images,
            "run.steps": options.steps,
            "run.batch": options.batch,
            "run.minutes": None,
            # Half as wide as the default bundle's: in the same time it sees more than twice the pictures.
            "block_out_channels": [32, 64, 96],
            # Suited to a short run: the averaged weights must not be those of its beginning.
            "run.ema": 0.95,
            "run.warmup": max(1, options.steps // 8),
            "run.lr": 1.5e-3,
            # A row is trained in one go, so that its CPU time is known, and validated when it is done.
            "run.checkpoint_every": NEVER,
            "run.validate_every": NEVER,
            "run.picture_every": NEVER,
        }
        return cls(bundle, options.data, options.work, options.recipe, common, options.samples, options.masks)

    @property
    def device(self) -> torch.device:
        """Where the bundle is."""
        return self.bundle.device

    @cached_property
    def settings(self) -> DenoiserSettings:
        """Those of the first row."""
        return load_settings(DenoiserSettings, recipe_path(self.recipe), self.common)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.settings.sizes[0]

    def about(self) -> dict[str, Any]:
        """What must be the same for two rows to stand in one table."""
        run = self.settings.run
        return {
            "encoder": self.bundle.id_of("encoder"),
            "data": self.data.name,
            "recipe": self.recipe,
            "size": self.size,
            "steps": run.steps,
            "batch": run.batch,
            "widths": list(self.settings.block_out_channels),
            "lr": run.lr,
            "images": self.settings.data.limit,
            "samples": self.samples,
            "masks": self.masks,
        }

    def train(self, name: str) -> dict[str, float]:
        """Trains a row from scratch: its held-out losses, its steps and its CPU time in seconds."""
        row, folder = ROWS[name], self.work / name
        assert self.bundle.folder is not None  # it was read from one
        autoencoder = self.work / f"autoencoder-{row.channels or 'all'}"
        self.autoencoder(row).save_pretrained(autoencoder)
        for part in ("latents", "holdout"):
            lend_latents(self.work / "base" / part, folder / part, row.channels)
        parts = {
            "run.folder": str(folder),
            "encoder": str(self.bundle.folder / "encoder"),
            "autoencoder": str(autoencoder),
        }
        began = time.process_time()
        figures = train_part("denoiser", self.recipe, None, self.common | parts | row.settings)
        seconds = time.process_time() - began
        (folder / "checkpoint.pt").unlink()
        return {n: v for n, v in figures.items() if n != "weights"} | {"cpu_seconds": seconds}

    def autoencoder(self, row: Row) -> Autoencoder:
        """The bundle's linear path with the row's leading channels, and a decoder that adds nothing."""
        full = self.bundle.autoencoder
        kept = row.channels or full.config.latent_channels
        part: Autoencoder = Autoencoder(kept, (16, 16, 16), residual_encoder=False)
        # Principal components are in order: fewer of them are the first ones. The bias is the pixels'.
        linear = {
            name: value if name == "synthesis.bias" else value[:kept]
            for name, value in full.state_dict().items()
            if not name.startswith("decoder.")
        }
        part.load_state_dict(linear, strict=False)
        return part.to(self.device).eval()

    def measured(self, name: str) -> dict[str, Any]:
        """Everything about a trained row but its loss."""
        row, folder = ROWS[name], self.work / name
        autoencoder, denoiser = self.autoencoder(row), load_part(Denoiser, folder / "weights").to(self.device)
        cache = load_cache(folder / "latents", (self.size,))
        chosen = self.matched(cache)
        tokens = EncoderOutput(cache.cls[chosen].float(), cache.patches[chosen].float())
        clean, frames = cache.latents[self.size][chosen].float(), cache.frames[self.size][chosen]
        with inference(self.device):
            latents = sampled(denoiser, tokens, frames, clean.shape, self.settings.time_shift)
            made, perfect = (
                torch.cat([autoencoder.decode(part.to(self.device)).cpu() for part in each.split(BATCH)])
                for each in (latents, clean)
            )
            auc = lung_auc(denoiser, autoencoder, self.bundle.encoder, *self.lungs)
            nearest = likeness(self.bundle.encoder, made, tokens, self.patients(cache, chosen))
        features = [extract(self.net, each.split(BATCH)) for each in (made, perfect)]
        kid, kid_perfect = (kernel_distance(self.real, each) for each in features)
        return {
            "changed": row.changed,
            "weights": sum(weight.numel() for weight in denoiser.parameters()),
            "flops": passes(denoiser, self.size),
            "kid": vars(kid),
            "kid_perfect": kid_perfect.value,
            **nearest,
            "lung_auc": auc,
        }

    @cached_property
    def net(self) -> EfficientNetLite0Features:
        """Never saw a radiograph, so it flatters no row."""
        return EfficientNetLite0Features(self.device)

    @cached_property
    def held_out(self) -> list[CorpusItem]:
        """Twice as many as samples."""
        items = load_corpus(self.data, ["holdout"])
        return [items[i] for i in evenly(len(items), 2 * self.samples)]

    @cached_property
    def real(self) -> np.ndarray:
        """Features of held-out radiographs."""
        return extract(
            self.net, tqdm(pictures(self.held_out, self.size, BATCH), "features of held-out images")
        )

    def trained_on(self, cache: LatentCache) -> list[CorpusItem]:
        """The training image of each view."""
        data = self.settings.data
        items = load_corpus(self.data, data.splits, data.sources, data.limit)
        return [items[number] for number in cache.items.tolist()]

    def matched(self, cache: LatentCache) -> torch.Tensor:
        """Views whose tokens condition the samples: training images of the held-out images' sources."""
        sources = np.array([item.source for item in self.trained_on(cache)])
        rng = np.random.default_rng(0)
        chosen: list[int] = []
        for number in evenly(len(self.held_out), self.samples):
            alike = np.setdiff1d(np.flatnonzero(sources == self.held_out[number].source), chosen)
            if not len(alike):
                raise EvaluationError(
                    f"Too few training images of source {self.held_out[number].source!r} for "
                    f"{self.samples} samples; give more --images or fewer --samples."
                )
            chosen.append(int(rng.choice(alike)))
        return torch.tensor(chosen)

    def patients(self, cache: LatentCache, chosen: torch.Tensor) -> list[str]:
        """Whose radiograph each chosen view is."""
        items = self.trained_on(cache)
        return [items[place].patient or items[place].key for place in chosen.tolist()]

    @cached_property
    def lungs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Dev radiographs `(N, 1, size, size)` and which cells of their latents are lung `(N, h, w)`."""
        rows = [row for row in list_rows(self.data) if row.get("split") == "dev" and row.get("mask")]
        if not rows:
            raise EvaluationError(f"{self.data.name}: no image of split dev has a mask.")
        rows = [rows[i] for i in evenly(len(rows), self.masks)]
        return lung_cells(
            [(self.data.parent / row["image"], self.data.parent / row["mask"]) for row in rows], self.size
        )


def lend_latents(source: Path, target: Path, channels: int | None) -> None:
    """Gives a row the latents of the first one, so that its images are not prepared again."""
    if not source.is_dir() or target.is_dir():
        return
    draft = target.with_name(f".{target.name}")
    draft.mkdir(parents=True, exist_ok=True)
    for shard in sorted(source.glob("views-*.safetensors")):
        columns = load_file(shard)
        kept = {
            name: value[:, :channels].contiguous() if name.startswith("latents_") else value
            for name, value in columns.items()
        }
        save_file(kept, draft / shard.name)
    os.replace(draft, target)
