"""Training of the KL autoencoder: random crops, L1 + perceptual + adversarial + KL."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dino_diffusion.crop import Box, cut, whole
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.training.adversarial import AdversarialAutoencoder, PatchDiscriminator, balance
from dino_diffusion.training.batches import Batch, Prefetcher, in_threads
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.loop import Step
from dino_diffusion.training.perceptual import perceptual_loss
from dino_diffusion.training.pictures import save_grid
from dino_diffusion.training.settings import AutoencoderSettings
from dino_diffusion.training.stream import EpochStream
from dino_diffusion.training.views import square

VALIDATION_IMAGES, VALIDATION_SIZE = 64, 256

RISE = 0.1
"""Share of the run over which the discriminator gains its full say: at first it knows nothing."""

LARGE = 512
"""Native side in pixels from which a picture has detail of its own at the validation size."""


class AutoencoderPart:
    """A `Part` for the loop."""

    parameter_groups: list[dict[str, Any]] | None = None

    def __init__(self, settings: AutoencoderSettings, initial: Autoencoder | None = None) -> None:
        self.settings = settings
        data = settings.data
        self.items = load_corpus(data.path, data.splits, data.sources, data.limit)
        held_out = (
            load_corpus(data.path, data.holdout, limit=VALIDATION_IMAGES) if data.holdout else self.items
        )
        held_out = held_out[:VALIDATION_IMAGES]
        self.validation, sides = _whole_views(held_out, settings.run.workers)
        self.large = sides >= LARGE
        stream = EpochStream([item.source for item in self.items], settings.run.seed, data.most_of_a_source)
        self.batches = Prefetcher(
            stream,
            functools.partial(crop, self.items, settings.crop, settings.run.seed),
            settings.run.batch,
            settings.run.workers,
        )
        autoencoder = initial or self._fresh()
        if not settings.residual_encoder:
            autoencoder.analysis.requires_grad_(False)
        discriminator = PatchDiscriminator() if settings.adversarial else None
        self.module = AdversarialAutoencoder(autoencoder, discriminator)
        self.perceptual = perceptual_loss() if settings.perceptual else None

    def _fresh(self) -> Autoencoder:
        settings = self.settings
        module = Autoencoder(
            settings.latent_channels,
            settings.block_out_channels,
            settings.layers_per_block,
            settings.residual_encoder,
        )
        views = self._sample_views()
        module.fit_linear_path(views)
        module.standardise(module.posterior(views).mode())
        return module

    def _sample_views(self) -> torch.Tensor:
        """Whole views of training images, for statistics: `(linear_images, 1, 256, 256)`."""
        sample = self.items[:: max(1, len(self.items) // self.settings.linear_images)]
        return _whole_views(sample[: self.settings.linear_images], self.settings.run.workers)[0]

    def batch(self, step: Step) -> Batch:
        return self.batches.batch(step.number, step.rank, step.processes)

    def losses(self, module: nn.Module, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        pixels, settings = batch["pixels"], self.settings
        # One call of the module itself, so that the gradients of all processes are averaged.
        made = module(pixels, settings.latent_noise)
        losses = {"l1": (made.restored.float() - pixels).abs().mean(), "kl": made.kl}
        loss = losses["l1"] + settings.kl * made.kl
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual.to(pixels.device)(made.restored, pixels)
            loss = loss + settings.perceptual * losses["perceptual"]
        if made.hinge is not None:
            rising = settings.adversarial * min(1.0, progress / RISE)
            share = rising * balance(loss, made.persuasion, self.module.autoencoder.decoder.conv_out.weight)
            losses |= {"persuasion": made.persuasion, "hinge": made.hinge}
            loss = loss - share * made.persuasion + made.hinge
        return losses | {"loss": loss}

    def after_step(self, module: AdversarialAutoencoder, progress: float) -> None:
        """Nothing moves but the optimiser."""

    @torch.no_grad()
    def validate(self, module: AdversarialAutoencoder, device: torch.device) -> dict[str, float]:
        """PSNR in dB of whole held-out images, all and apart by native size."""
        errors = []
        for pixels in self.validation.split(8):
            pixels = pixels.to(device)
            errors.append((_round_trip(module, pixels) - pixels).square().mean((1, 2, 3)).cpu())
        psnr = -10 * torch.cat(errors).clamp_min(1e-10).log10()
        groups = {"psnr": psnr, "psnr_large": psnr[self.large], "psnr_small": psnr[~self.large]}
        return {name: float(values.mean()) for name, values in groups.items() if len(values)}

    @torch.no_grad()
    def picture(self, module: AdversarialAutoencoder, device: torch.device, path: Path) -> None:
        pixels = self.validation[:4].to(device)
        save_grid(torch.cat([pixels, _round_trip(module, pixels)]), path, columns=4)

    @torch.no_grad()
    def save(self, module: AdversarialAutoencoder, folder: Path) -> None:
        """Standardises the latents on training images, then writes the part.

        With a linear encoder they were standardised before training and must stay as they were.
        """
        autoencoder = module.autoencoder
        if self.settings.residual_encoder:
            views = self._sample_views().to(autoencoder.device).split(8)
            autoencoder.standardise(torch.cat([autoencoder.posterior(view).mode() for view in views]))
        autoencoder.save_pretrained(folder, max_shard_size="14MB")


def crop(items: list[CorpusItem], size: int, seed: int, place: int, index: int) -> Batch:
    """`pixels`: a random `size` px crop `(1, size, size)` of item `index`, at native to half resolution, or a
    little enlarged where the whole picture is smaller than the model's view of it.

    `place` is the position in the training stream, so that a resumed run draws the same crops.
    """
    rng = np.random.default_rng((seed, place))
    picture = square(items[index].read())
    side = picture.shape[-1]
    finest, coarsest = min(1.0, side / VALIDATION_SIZE), max(1.0, min(2.5, side / size))
    span = min(side, int(size * rng.uniform(finest, coarsest)))
    left, top = (int(rng.integers(0, side - span + 1)) for _ in range(2))
    return {"pixels": cut(picture, Box(left, top, span), size)[0]}


def _round_trip(module: AdversarialAutoencoder, pixels: torch.Tensor) -> torch.Tensor:
    """Restored pixels `(B, 1, H, W)` in [0, 1] from the latents' mean."""
    autoencoder = module.autoencoder
    return autoencoder.synthesise(autoencoder.posterior(pixels).mode()).clamp(0, 1)


def _whole_views(items: list[CorpusItem], workers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole images `(N, 1, 256, 256)` and their native sides `(N,)` in pixels."""

    def view(item: CorpusItem) -> tuple[torch.Tensor, int]:
        picture = square(item.read())
        return cut(picture, whole(picture.shape[-1]), VALIDATION_SIZE), picture.shape[-1]

    views = in_threads(view, items, workers)
    return torch.cat([pixels for pixels, _ in views]), torch.tensor([side for _, side in views])
