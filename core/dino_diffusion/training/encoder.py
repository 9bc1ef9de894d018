"""The encoder part: truncated backbone, optional DINO self-distillation, PCA whitening of its tokens."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.settings import EncoderSettings
from dino_diffusion.training.stream import EpochStream
from dino_diffusion.training.views import cut, draw_box, square, whole

log = logging.getLogger(__name__)


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
    for start in range(0, min(len(order), settings.whitening_images), 8):
        views = []
        for index in order[start : start + 8]:
            picture = square(items[index].read())
            side = picture.shape[-1]
            # As many whole views as crops: both are conditioned on.
            box = whole(side) if len(views) % 2 else draw_box(rng, side, encoder.image_size)
            views.append(cut(picture, box, encoder.image_size))
        batch_cls, batch_patches = encoder.raw_tokens(torch.cat(views).to(device))
        cls.append(batch_cls.cpu())
        patches.append(batch_patches.flatten(0, 2)[:: 5].cpu())
    encoder.cpu().cls_whitening.fit(torch.cat(cls))
    encoder.patch_whitening.fit(torch.cat(patches))
    log.info("whitening fitted on %d views", sum(map(len, cls)))


def save_encoder(encoder: DinoEncoder, folder: Path) -> None:
    """Writes the part's folder of a bundle."""
    encoder.eval().save_pretrained(folder)
