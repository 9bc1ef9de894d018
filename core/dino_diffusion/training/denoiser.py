"""Training of the denoiser: rectified flow on cached latents, with representation alignment.

Rectified flow (Liu et al. 2022; logit-normal t, Esser et al. 2024): x_t = (1 - t) x0 + t eps, the network
predicts eps - x0. Representation alignment (REPA, Yu et al. 2024): an inner feature map is pulled toward
the encoder's patch tokens of the clean picture during the first part of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.denoiser import Denoiser
from dino_diffusion.models.encoder import DinoEncoder, EncoderOutput
from dino_diffusion.sampling import SAMPLERS, initial_noise, time_grid
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.latents import LatentCache, list_views, load_cache, prepare
from dino_diffusion.training.pictures import save_grid
from dino_diffusion.training.settings import DenoiserSettings
from dino_diffusion.training.stream import EpochStream

VALIDATION_VIEWS, VALIDATION_TIMES = 128, (0.1, 0.3, 0.5, 0.7, 0.9)


class AlignedDenoiser(nn.Module):
    """The denoiser and, for training only, the projector from an inner feature map to patch tokens."""

    def __init__(self, denoiser: Denoiser, layer: str, patch_width: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._features: torch.Tensor | None = None
        inner = denoiser.unet.get_submodule(layer)
        inner.register_forward_hook(self._remember)
        with torch.no_grad():
            probe = torch.zeros(1, denoiser.config.latent_channels, 16, 16)
            frames = torch.zeros(1, 6)
            denoiser(probe, torch.zeros(1), denoiser.unconditional(frames))
        assert self._features is not None  # the probe pass above ran through the hooked layer
        width = self._features.shape[1]
        self.projector = nn.Sequential(
            nn.Conv2d(width, 256, 1), nn.SiLU(), nn.Conv2d(256, 256, 1), nn.SiLU(), nn.Conv2d(256, patch_width, 1)
        )

    def _remember(self, layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        self._features = output

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
        wait: Any = None,
    ) -> None:
        self.settings, self.autoencoder = settings, autoencoder
        self.patch_scale = encoder.patch_whitening.scale
        data = settings.data
        items = load_corpus(data.path, data.splits, data.sources, data.limit)
        folder = Path(settings.run.folder)
        chosen = np.unique(EpochStream([i.source for i in items], settings.run.seed, data.most_prepared).epoch(0))
        arguments = (settings.sizes, encoder, autoencoder, settings.run.seed, device, rank, processes, rank > 0)
        prepare(folder / "latents", items, list_views(items, settings.views, chosen), *arguments)
        held_out = load_corpus(data.path, data.holdout, limit=VALIDATION_VIEWS) if data.holdout else items
        held_out = held_out[:VALIDATION_VIEWS]
        prepare(folder / "holdout", held_out, list_views(held_out, 1, np.arange(len(held_out))), *arguments)
        if wait is not None:
            wait()
        self.cache = load_cache(folder / "latents", settings.sizes)
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
        sources = [items[int(item)].source for item in self.cache.items[places]]
        return places, EpochStream(sources, self.settings.run.seed, self.settings.data.most_of_a_source)

    def step(
        self, module: nn.Module, step: int, progress: float, rank: int, processes: int, device: torch.device
    ) -> dict[str, torch.Tensor]:
        settings = self.settings
        size, batch = size_at(progress, settings)
        places, stream = self.streams[size]
        chosen = places[torch.from_numpy(stream.batch(step, batch, rank, processes))]
        generator = torch.Generator().manual_seed(hash((settings.run.seed, step, rank)) % 2**63)
        clean = self.cache.latents[size][chosen].float().to(device)
        eps = torch.randn(clean.shape, generator=generator).to(device)
        t = draw_times(batch, settings.time_shift, generator).to(device)
        present = draw_present(batch, settings, generator).to(device)
        patches = self.cache.patches[chosen].float().to(device)
        encoded = EncoderOutput(self.cache.cls[chosen].float().to(device), patches)
        frames = self.cache.frames[size][chosen].to(device)
        noisy = torch.lerp(clean, eps, t[:, None, None, None])
        velocity, projected = module(noisy, t, encoded, frames, present)
        losses = {"flow": functional.mse_loss(velocity.float(), eps - clean)}
        losses["alignment"] = alignment_loss(projected, patches, self.patch_scale.to(device))
        weight = settings.alignment if progress < settings.alignment_share else 0.0
        losses["loss"] = losses["flow"] + weight * losses["alignment"]
        return losses

    @torch.no_grad()
    def validate(self, module: nn.Module, device: torch.device) -> dict[str, float]:
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
    def picture(self, module: nn.Module, device: torch.device, path: Path) -> None:
        """Held-out pictures, samples from their tokens, and samples from nothing, a row each."""
        count, size = min(6, len(self.held_out)), self.settings.sizes[-1]
        encoded, frames = self._held_out(slice(0, count), size, device)
        denoiser: Denoiser = module.denoiser
        clean = self.held_out.latents[size][:count].float()
        rows = [clean.to(device)]
        noise = initial_noise(clean.shape, torch.Generator().manual_seed(0), device, torch.float32)
        for condition in (denoiser.condition(encoded, frames), denoiser.unconditional(frames)):
            times = time_grid(16, self.settings.time_shift)
            rows.append(SAMPLERS["euler"](lambda x, t, c=condition: denoiser(x, t, c), noise, times))
        autoencoder = self.autoencoder.to(device)
        save_grid(torch.cat([autoencoder.decode(row) for row in rows]), path, columns=count)

    def save(self, module: nn.Module, folder: Path) -> None:
        module.denoiser.save_pretrained(folder, max_shard_size="14MB")

    def _held_out(self, part: slice, size: int, device: torch.device) -> tuple[EncoderOutput, torch.Tensor]:
        encoded = EncoderOutput(
            self.held_out.cls[part].float().to(device), self.held_out.patches[part].float().to(device)
        )
        return encoded, self.held_out.frames[size][part].to(device)


def size_at(progress: float, settings: DenoiserSettings) -> tuple[int, int]:
    """Picture side and batch size at `progress` in [0, 1)."""
    ends = np.cumsum(settings.size_shares) / sum(settings.size_shares)
    place = min(int(np.searchsorted(ends, progress, side="right")), len(settings.sizes) - 1)
    return settings.sizes[place], max(1, round(settings.run.batch * settings.batch_factors[place]))


def draw_times(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Logit-normal flow times `(count,)`, moved toward noise by `shift` (Esser et al. 2024, eq. 23)."""
    t = torch.randn(count, generator=generator).sigmoid()
    return shift * t / (1 + (shift - 1) * t)


def draw_present(count: int, settings: DenoiserSettings, generator: torch.Generator) -> torch.Tensor:
    """Which condition tokens each picture keeps, `(count, 1 + grid^2)` bool.

    Some lose all (guidance), some lose single tokens, some a rectangle of patches (in-place editing nulls
    the patches under its mask), and some keep only CLS or only the patches.
    """
    grid = settings.token_grid

    def chance(p: float, *shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator) < p

    present = torch.ones(count, 1 + grid * grid, dtype=torch.bool)
    present[:, 0] = ~chance(settings.drop_tokens)
    if grid:
        corners = torch.randint(0, grid, (count, 2, 2), generator=generator)
        low, high = corners.amin(-1), corners.amax(-1)
        place = torch.arange(grid)
        inside = [(place >= low[:, i, None]) & (place <= high[:, i, None]) for i in (0, 1)]
        rectangle = inside[0][:, :, None] & inside[1][:, None, :]
        lost = rectangle.flatten(1) & chance(settings.drop_tokens)[:, None]
        lost |= chance(0.3, grid * grid) & chance(settings.drop_tokens)[:, None]
        lost |= chance(settings.drop_tokens / 3)[:, None]
        present[:, 1:] = ~lost
    return present & ~chance(settings.drop_all)[:, None]


def alignment_loss(projected: torch.Tensor, patches: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """One minus the cosine between projected features and the patch tokens at the features' resolution.

    `scale` undoes the whitening's division, so that the leading components weigh what they explain.
    """
    target = functional.interpolate(patches * scale[:, None, None], projected.shape[-2:], mode="area")
    return 1 - functional.cosine_similarity(projected.float(), target, dim=1).mean()
