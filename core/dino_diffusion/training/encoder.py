"""The encoder part: truncated backbone, PCA whitening of its tokens, and how well it tells images apart."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.settings import EncoderSettings
from dino_diffusion.training.stream import EpochStream
from dino_diffusion.training.views import cut, draw_box, square, whole

log = logging.getLogger(__name__)

COMPARED_IMAGES = 256
BATCH = 8

Crops = tuple[torch.Tensor, torch.Tensor]
"""Two crops of each held-out image, `(N, 1, size, size)` each."""


def fresh_encoder(settings: EncoderSettings) -> DinoEncoder:
    """The first `layers` blocks of the backbone that the settings name."""
    return DinoEncoder.from_backbone(
        settings.backbone, settings.layers, settings.image_size, settings.cls_width, settings.patch_width
    )


@torch.no_grad()
def fit_whitening(encoder: DinoEncoder, settings: EncoderSettings, device: torch.device) -> None:
    """Fits the whitening on whole views and crops of training images, sources balanced."""
    data = settings.data
    items = load_corpus(data.path, data.splits, data.sources, data.limit)
    order = EpochStream([item.source for item in items], settings.run.seed, data.most_of_a_source).epoch(0)
    rng = np.random.default_rng(settings.run.seed)
    cls, patches = [], []
    encoder.eval().to(device)
    for start in range(0, min(len(order), settings.whitening_images), BATCH):
        views: list[torch.Tensor] = []
        for index in order[start : start + BATCH]:
            picture = square(items[index].read())
            side = picture.shape[-1]
            # As many whole views as crops: both are conditioned on.
            box = whole(side) if len(views) % 2 else draw_box(rng, side, encoder.image_size)
            views.append(cut(picture, box, encoder.image_size))
        batch_cls, batch_patches = encoder.raw_tokens(torch.cat(views).to(device))
        cls.append(batch_cls.cpu())
        # Neighbouring patches say much the same; every fifth is enough.
        patches.append(batch_patches.flatten(0, 2)[::5].cpu())
    encoder.cpu().cls_whitening.fit(torch.cat(cls))
    encoder.patch_whitening.fit(torch.cat(patches))
    log.info("whitening fitted on %d views", sum(map(len, cls)))


def held_out_crops(settings: EncoderSettings) -> Crops:
    """Two random crops of `COMPARED_IMAGES` images of the holdout (of the training set without one)."""
    data = settings.data
    items = load_corpus(data.path, data.holdout or data.splits, limit=COMPARED_IMAGES)
    rng = np.random.default_rng(settings.run.seed)
    firsts: list[torch.Tensor] = []
    seconds: list[torch.Tensor] = []
    for item in items:
        picture = square(item.read())
        for crops in (firsts, seconds):
            box = draw_box(rng, picture.shape[-1], settings.image_size)
            crops.append(cut(picture, box, settings.image_size))
    return torch.cat(firsts), torch.cat(seconds)


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
