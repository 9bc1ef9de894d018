"""The encoder part: truncated backbone, PCA whitening of its tokens, and how well it tells images apart."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.crop import cut, whole
from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.training.batches import in_threads
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.settings import EncoderSettings
from dino_diffusion.training.stream import EpochStream
from dino_diffusion.training.views import draw_box, square

log = logging.getLogger(__name__)

COMPARED_IMAGES = 256
BATCH = 16

Crops = tuple[torch.Tensor, torch.Tensor]
"""Two crops of each held-out image, `(N, 1, size, size)` each."""


def fresh_encoder(settings: EncoderSettings) -> DinoEncoder:
    """The first `layers` blocks of the backbone that the settings name."""
    return DinoEncoder.from_backbone(
        settings.backbone, settings.layers, settings.image_size, settings.cls_width, settings.patch_width
    )


def whitening_views(settings: EncoderSettings) -> torch.Tensor:
    """Whole views and crops of training images, sources balanced, `(N, 1, image_size, image_size)`."""
    data, size = settings.data, settings.image_size
    items = load_corpus(data.path, data.splits, data.sources, data.limit)
    order = EpochStream([item.source for item in items], settings.run.seed, data.most_of_a_source).epoch(0)

    def view(place: int) -> torch.Tensor:
        picture = square(items[order[place]].read())
        side = picture.shape[-1]
        # As many whole views as crops: both are conditioned on.
        rng = np.random.default_rng((settings.run.seed, place))
        return cut(picture, whole(side) if place % 2 else draw_box(rng, side, size), size)

    return torch.cat(
        in_threads(view, range(min(len(order), settings.whitening_images)), settings.run.workers)
    )


@torch.no_grad()
def fit_whitening(encoder: DinoEncoder, views: torch.Tensor, device: torch.device) -> None:
    """Fits the whitening of both kinds of token on `views` (N, 1, H, W)."""
    cls, patches = [], []
    encoder.eval().to(device)
    for part in views.split(BATCH):
        batch_cls, batch_patches = encoder.raw_tokens(part.to(device))
        cls.append(batch_cls.cpu())
        # Neighbouring patches say much the same; every fifth is enough.
        patches.append(batch_patches.flatten(0, 2)[::5].cpu())
    encoder.cpu().cls_whitening.fit(torch.cat(cls))
    encoder.patch_whitening.fit(torch.cat(patches))
    log.info("whitening fitted on %d views", len(views))


def held_out_crops(settings: EncoderSettings) -> Crops:
    """Two random crops of `COMPARED_IMAGES` images of the holdout (of the training set without one)."""
    data = settings.data
    items = load_corpus(data.path, data.holdout or data.splits, limit=COMPARED_IMAGES)

    def pair(place: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = square(items[place].read())
        rng = np.random.default_rng((settings.run.seed, place))
        first, second = (draw_box(rng, picture.shape[-1], settings.image_size) for _ in range(2))
        return cut(picture, first, settings.image_size), cut(picture, second, settings.image_size)

    pairs = in_threads(pair, range(len(items)), settings.run.workers)
    return torch.cat([first for first, _ in pairs]), torch.cat([second for _, second in pairs])


@torch.no_grad()
def retrieval(encoder: DinoEncoder, crops: Crops, device: torch.device, whitened: bool = True) -> float:
    """Share of images whose one crop finds the other among those of all images, by cosine of CLS tokens.

    `whitened` false compares the backbone's own tokens, centred.
    """
    encoder = encoder.eval().to(device)

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        tokens = torch.cat([encoder.raw_tokens(part.to(device))[0].float() for part in pixels.split(BATCH)])
        return encoder.cls_whitening(tokens) if whitened else tokens - tokens.mean(0)

    first, second = (functional.normalize(embed(pixels), dim=1) for pixels in crops)
    found = (first @ second.T).argmax(1).cpu()
    return float((found == torch.arange(len(found))).float().mean())


def save_encoder(encoder: DinoEncoder, folder: Path) -> None:
    """Writes the part's folder of a bundle."""
    encoder.cpu().eval().save_pretrained(folder)
