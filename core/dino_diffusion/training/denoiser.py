"""Training of the denoiser: rectified flow on cached latents, with representation alignment.

Rectified flow (Liu et al. 2022; logit-normal t, Esser et al. 2024): x_t = (1 - t) x0 + t eps, the network
predicts eps - x0. Representation alignment (REPA, Yu et al. 2024): an inner feature map is pulled toward
the encoder's patch tokens of the clean picture during the first part of the run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.denoiser import Condition, Denoiser
from dino_diffusion.models.encoder import DinoEncoder, EncoderOutput
from dino_diffusion.sampling import SAMPLERS, initial_noise, time_grid
from dino_diffusion.training.batches import Batch
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.latents import list_views, load_cache, prepare
from dino_diffusion.training.loop import Step
from dino_diffusion.training.pictures import save_grid
from dino_diffusion.training.settings import DenoiserSettings
from dino_diffusion.training.stream import EpochStream

VALIDATION_VIEWS, VALIDATION_TIMES = 128, (0.1, 0.3, 0.5, 0.7, 0.9)
MOST_OF_A_GPU = 0.4
"""Share of a GPU's free memory that latents may take; a larger cache stays in the computer's."""


class AlignedDenoiser(nn.Module):
    """The denoiser and, for training only, the projector from an inner feature map to patch tokens."""

    def __init__(self, denoiser: Denoiser, layer: str, patch_width: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._features: torch.Tensor | None = None
        try:
            inner = denoiser.unet.get_submodule(layer)
        except AttributeError as error:
            raise ConfigurationError(
                f"alignment_layer: the denoiser has no {layer!r}; use up_blocks.0."
            ) from error
        inner.register_forward_hook(self._remember)
        with torch.no_grad():
            probe = torch.zeros(1, denoiser.config.latent_channels, 16, 16)
            frames = torch.zeros(1, 6)
            denoiser(probe, torch.zeros(1), denoiser.unconditional(frames))
        assert self._features is not None  # the probe pass above ran through the hooked layer
        width = self._features.shape[1]
        self.projector: nn.Module = nn.Sequential(
            nn.Conv2d(width, 256, 1),
            nn.SiLU(),
            nn.Conv2d(256, 256, 1),
            nn.SiLU(),
            nn.Conv2d(256, patch_width, 1),
        )

    def _remember(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._features = output[0] if isinstance(output, tuple) else output

    def forward(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        encoded: EncoderOutput,
        frames: torch.Tensor,
        present: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocity (B, C, h, w) and projected features (B, patch width, h', w')."""
        velocity = self.denoiser(noisy, t, self.denoiser.condition(encoded, frames, present))
        assert self._features is not None  # set by the hook in the line above
        return velocity, self.projector(self._features)


class DenoiserPart:
    """A `Part` for the loop."""

    parameter_groups: list[dict[str, Any]] | None = None

    def __init__(
        self,
        settings: DenoiserSettings,
        encoder: DinoEncoder,
        autoencoder: Autoencoder,
        device: torch.device,
        initial: Denoiser | None = None,
        rank: int = 0,
        processes: int = 1,
        wait: Callable[[], None] = lambda: None,
        quiet: bool = False,
    ) -> None:
        """Prepares the latents first: this process its share of them, `wait` until all are there."""
        self.settings, self.autoencoder = settings, autoencoder
        self.patch_scale = encoder.patch_whitening.scale
        data = settings.data
        items = load_corpus(data.path, data.splits, data.sources, data.limit)
        folder = Path(settings.run.folder)
        chosen = np.unique(
            EpochStream([i.source for i in items], settings.run.seed, data.most_prepared).epoch(0)
        )
        quiet = quiet or rank > 0
        arguments = (
            settings.sizes,
            encoder,
            autoencoder,
            settings.run.seed,
            device,
            rank,
            processes,
            quiet,
            settings.run.workers,
        )
        prepare(folder / "latents", items, list_views(items, settings.views, chosen), *arguments)
        held_out = load_corpus(data.path, data.holdout, limit=VALIDATION_VIEWS) if data.holdout else items
        held_out = held_out[:VALIDATION_VIEWS]
        prepare(folder / "holdout", held_out, list_views(held_out, 1, np.arange(len(held_out))), *arguments)
        wait()
        self.cache = load_cache(folder / "latents", settings.sizes)
        if device.type == "cuda" and self.cache.bytes < torch.cuda.mem_get_info(device)[0] * MOST_OF_A_GPU:
            self.cache = self.cache.to(device)
        self.held_out = load_cache(folder / "holdout", settings.sizes)
        self.streams = {size: self._stream(size, items) for size in settings.sizes}
        denoiser = initial or Denoiser(
            latent_channels=autoencoder.config.latent_channels,
            block_out_channels=settings.block_out_channels,
            layers_per_block=settings.layers_per_block,
            token_width=settings.token_width,
            cls_width=encoder.cls_width,
            patch_width=encoder.patch_width,
            token_grid=settings.token_grid,
        )
        self.module = AlignedDenoiser(denoiser, settings.alignment_layer, encoder.patch_width)

    def _stream(self, size: int, items: list[CorpusItem]) -> tuple[torch.Tensor, EpochStream]:
        """Places in the cache that have enough pixels for `size`, and the order to see them in."""
        places = self.cache.fits[size].nonzero()[:, 0]
        if not len(places):
            raise ConfigurationError(
                f"{self.settings.data.path}: no training image has the pixels for size {size}; lower sizes."
            )
        sources = [items[int(item)].source for item in self.cache.items[places]]
        return places, EpochStream(sources, self.settings.run.seed, self.settings.data.most_of_a_source)

    def batch(self, step: Step) -> Batch:
        """Clean latents with their noise, flow times, conditions and which of the tokens are present."""
        settings, generator = self.settings, step.generator()
        size, count = size_at(step.progress, settings)
        places, stream = self.streams[size]
        chosen = places[torch.from_numpy(stream.batch(step.number, count, step.rank, step.processes))]
        frames = self.cache.frames[size][chosen]
        chosen = chosen.to(self.cache.cls.device)
        clean = self.cache.latents[size][chosen].to(step.device).float()
        return {
            "clean": clean,
            "eps": torch.randn(clean.shape, generator=generator, device=step.device),
            "t": draw_times(count, settings.time_shift, generator),
            "present": draw_present(count, settings, generator),
            "cls": self.cache.cls[chosen].to(step.device).float(),
            "patches": self.cache.patches[chosen].to(step.device).float(),
            "frames": frames,
        }

    def losses(self, module: nn.Module, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        clean, eps, t, patches = (batch[name] for name in ("clean", "eps", "t", "patches"))
        noisy = torch.lerp(clean, eps, t[:, None, None, None])
        encoded = EncoderOutput(batch["cls"], patches)
        velocity, projected = module(noisy, t, encoded, batch["frames"], batch["present"])
        losses = {"flow": functional.mse_loss(velocity.float(), eps - clean)}
        losses["alignment"] = alignment_loss(projected, patches, self.patch_scale.to(patches.device))
        weight = self.settings.alignment if progress < self.settings.alignment_share else 0.0
        losses["loss"] = losses["flow"] + weight * losses["alignment"]
        return losses

    def after_step(self, module: AlignedDenoiser, progress: float) -> None:
        """Nothing moves but the optimiser."""

    @torch.no_grad()
    def validate(self, module: AlignedDenoiser, device: torch.device) -> dict[str, float]:
        """Flow loss on held-out views at fixed times and noise, a figure a time and their mean."""
        size = self.settings.sizes[-1]
        figures = {}
        for t in VALIDATION_TIMES:
            losses = []
            for start in range(0, min(len(self.held_out), VALIDATION_VIEWS), 16):
                part = slice(start, start + 16)
                clean = self.held_out.latents[size][part].float()
                eps = torch.randn(clean.shape, generator=torch.Generator().manual_seed(start))
                encoded, frames = self._held_out(part, size, device)
                noisy = torch.lerp(clean, eps, t).to(device)
                condition = module.denoiser.condition(encoded, frames)
                velocity = module.denoiser(noisy, torch.full((len(clean),), t, device=device), condition)
                losses.append((velocity.cpu() - (eps - clean)).square().mean((1, 2, 3)))
            figures[f"flow_{t}"] = float(torch.cat(losses).mean())
        return {"flow_held_out": sum(figures.values()) / len(figures), **figures}

    @torch.no_grad()
    def picture(self, module: AlignedDenoiser, device: torch.device, path: Path) -> None:
        """Held-out pictures, samples from their tokens, and samples from nothing, a row each."""
        count, size = min(6, len(self.held_out)), self.settings.sizes[-1]
        encoded, frames = self._held_out(slice(0, count), size, device)
        denoiser = module.denoiser
        clean = self.held_out.latents[size][:count].float()
        rows = [clean.to(device)]
        noise = initial_noise(clean.shape, torch.Generator().manual_seed(0), device, torch.float32)
        for condition in (denoiser.condition(encoded, frames), denoiser.unconditional(frames)):
            times = time_grid(16, self.settings.time_shift)
            rows.append(SAMPLERS["euler"](functools.partial(_velocity, denoiser, condition), noise, times))
        autoencoder = self.autoencoder.to(device)
        save_grid(torch.cat([autoencoder.decode(row) for row in rows]), path, columns=count)

    def save(self, module: AlignedDenoiser, folder: Path) -> None:
        module.denoiser.save_pretrained(folder, max_shard_size="14MB")

    def _held_out(self, part: slice, size: int, device: torch.device) -> tuple[EncoderOutput, torch.Tensor]:
        encoded = EncoderOutput(
            self.held_out.cls[part].float().to(device), self.held_out.patches[part].float().to(device)
        )
        return encoded, self.held_out.frames[size][part].to(device)


def _velocity(denoiser: Denoiser, condition: Condition, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return denoiser(x, t, condition)


def size_at(progress: float, settings: DenoiserSettings) -> tuple[int, int]:
    """Picture side and batch size at `progress` in [0, 1)."""
    ends = np.cumsum(settings.size_shares) / sum(settings.size_shares)
    place = min(int(np.searchsorted(ends, progress, side="right")), len(settings.sizes) - 1)
    return settings.sizes[place], max(1, round(settings.run.batch * settings.batch_factors[place]))


def draw_times(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Logit-normal flow times `(count,)`, moved toward noise by `shift` (Esser et al. 2024, eq. 23)."""
    t = torch.randn(count, generator=generator, device=generator.device).sigmoid()
    return shift * t / (1 + (shift - 1) * t)


def draw_present(count: int, settings: DenoiserSettings, generator: torch.Generator) -> torch.Tensor:
    """Which condition tokens each picture keeps, `(count, 1 + grid^2)` bool.

    Some lose all (guidance), some lose single tokens, some a rectangle of patches (in-place editing nulls
    the patches under its mask), and some keep only CLS or only the patches.
    """
    grid, device = settings.token_grid, generator.device

    def chance(p: float, *shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) < p

    present = torch.ones(count, 1 + grid * grid, dtype=torch.bool, device=device)
    present[:, 0] = ~chance(settings.drop_tokens)
    if grid:
        rectangle = draw_rectangles(count, grid, generator)
        lost = rectangle & chance(settings.drop_tokens)[:, None]
        lost |= chance(0.3, grid * grid) & chance(settings.drop_tokens)[:, None]
        lost |= chance(settings.drop_tokens / 3)[:, None]
        present[:, 1:] = ~lost
    return present & ~chance(settings.drop_all)[:, None]


def draw_rectangles(count: int, grid: int, generator: torch.Generator) -> torch.Tensor:
    """One random rectangle of a `grid` x `grid` each, `(count, grid^2)` bool, row by row, never empty."""
    device = generator.device
    corners = torch.randint(0, grid, (count, 2, 2), generator=generator, device=device)
    low, high = corners.amin(-1), corners.amax(-1)
    place = torch.arange(grid, device=device)
    inside = [(place >= low[:, i, None]) & (place <= high[:, i, None]) for i in (0, 1)]
    return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)


def alignment_loss(projected: torch.Tensor, patches: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """One minus the cosine between projected features and the patch tokens at the features' resolution.

    `scale` undoes the whitening's division, so that the leading components weigh what they explain.
    """
    target = functional.interpolate(patches * scale[:, None, None], projected.shape[-2:], mode="area")
    return 1 - functional.cosine_similarity(projected.float(), target, dim=1).mean()
