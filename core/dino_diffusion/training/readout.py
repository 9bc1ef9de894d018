"""Training of the lung head without a label.

1. Clusters over the corpus, of the denoiser's features of parts of each picture (`close_views.py`), named by
   the prior, make soft labels (`pseudo_labels.py`); no image's own lungs are known to anyone.
2. The head learns these labels on the images and on altered copies (shift, zoom, rotation, squash, gamma,
   black surroundings), the labels altered alike: where clusters err at random, it does not.

The denoiser's features are all that enters, in the labels as in the head.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dino_diffusion.alterations import draw_alteration
from dino_diffusion.crop import cut, whole
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.denoiser import Denoiser
from dino_diffusion.models.encoder import DinoEncoder, EncoderOutput
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.training.close_views import FINER, close_features
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.pseudo_labels import (
    border_of,
    cluster_maps,
    probabilities,
    shares_of,
    with_background,
)
from dino_diffusion.training.settings import ReadoutSettings
from dino_diffusion.training.stream import EpochStream
from dino_diffusion.training.view_checks import fit_view_checks
from dino_diffusion.training.views import square
from dino_diffusion.view import resize

BATCH = 8
REDUCED_ON = 80
"""Pictures whose features decide the principal components."""


def fit_readout(
    settings: ReadoutSettings,
    encoder: DinoEncoder,
    autoencoder: Autoencoder,
    denoiser: Denoiser,
    device: torch.device,
    quiet: bool = False,
) -> LungReadout:
    """A head trained on `settings.images` training radiographs and their altered copies."""
    torch.manual_seed(settings.run.seed)
    rng = np.random.default_rng(settings.run.seed)
    close, sides = _views(settings)
    pixels = torch.cat([resize(part.float(), settings.size) for part in close.split(BATCH)])
    for model in (encoder, autoencoder, denoiser):
        model.eval().to(device)

    def look(
        pictures: torch.Tensor, time: float, number: int, frames: torch.Tensor | None = None
    ) -> torch.Tensor:
        encoded = Encoded.of(pictures.to(device), encoder, autoencoder, frames)
        generator = torch.Generator().manual_seed(settings.run.seed * 7919 + number)
        return denoiser_features(denoiser, encoded, settings.layers, time, generator).cpu()

    def features(pictures: torch.Tensor, number: int) -> torch.Tensor:
        return look(pictures, settings.times[number % len(settings.times)], number)

    def features_close(number: int) -> torch.Tensor:
        return close_features(
            close[number : number + 1].float(),
            sides[number],
            lambda parts, frames: look(parts, settings.close_time, number, frames),
        )

    soft = cluster_maps(
        _reduced_close(settings, len(close), features_close, quiet), settings.clusters, settings.run.seed
    )
    lung = probabilities(soft, border_of(soft, settings.lung_area))

    batches = pixels.split(BATCH)
    first = torch.cat([features(batch, i) for i, batch in enumerate(batches[: REDUCED_ON // BATCH])])
    readout = LungReadout(
        first.shape[1],
        settings.components,
        settings.hidden,
        settings.layers,
        settings.times,
        checked=(encoder.cls_width, encoder.patch_width),
    )
    readout.fit_reduction(first)
    bar = tqdm(batches, "features", disable=quiet)
    plain = torch.cat([readout.reduce(features(batch, number)) for number, batch in enumerate(bar)])
    alterations = [draw_alteration(rng) for _ in range(len(pixels) * settings.copies)]
    altered = []
    starts = range(0, len(alterations), BATCH)
    for number, start in enumerate(tqdm(starts, "features of altered copies", disable=quiet)):
        part = range(start, min(start + BATCH, len(alterations)))
        pictures = torch.cat([alterations[i].picture(pixels[i % len(pixels)][None]) for i in part])
        altered.append(readout.reduce(features(pictures, number)))

    shares = shares_of(resize(lung, plain.shape[-1]))
    moved = [a.labels(shares[i % len(shares)][None, 1:]) for i, a in enumerate(alterations)]
    shares = torch.cat([shares, *map(with_background, moved)])
    train_head(readout.head, torch.cat([plain, *altered]), shares, settings)

    @torch.no_grad()
    def tokens(batch: torch.Tensor) -> EncoderOutput:
        encoded = encoder(batch.to(device))
        return EncoderOutput(encoded.cls.cpu(), encoded.patches.cpu())

    readout.checks = fit_view_checks(pixels, tokens, rng)
    return readout.eval()


def _reduced_close(
    settings: ReadoutSettings, count: int, features_of: Callable[[int], torch.Tensor], quiet: bool
) -> torch.Tensor:
    """Principal components `(count, D, h, w)` of every picture's close features, with their own variance."""
    first = torch.cat([features_of(number) for number in range(min(REDUCED_ON, count))])
    reduction = LungReadout(first.shape[1], settings.components)
    reduction.fit_reduction(first)
    scale = reduction.component_scale()[:, None, None]
    reduced = [reduction.reduce(part) * scale for part in first.split(BATCH)]
    del first
    for number in tqdm(range(min(REDUCED_ON, count), count), "close features", disable=quiet):
        reduced.append(reduction.reduce(features_of(number)) * scale)
    return torch.cat(reduced)


def train_head(
    head: nn.Module, features: torch.Tensor, shares: torch.Tensor, settings: ReadoutSettings
) -> None:
    """Cross-entropy with `shares` (B, 3, h, w)."""
    run = settings.run
    optimiser = torch.optim.AdamW(head.parameters(), run.lr, weight_decay=run.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, run.steps)
    stream = EpochStream([""] * len(features), run.seed)
    for step in range(run.steps):
        chosen = torch.from_numpy(stream.batch(step, run.batch))
        loss = -(shares[chosen] * head(features[chosen]).log_softmax(1)).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _views(settings: ReadoutSettings) -> tuple[torch.Tensor, list[int]]:
    """Whole views `(N, 1, FINER size, FINER size)` fp16 of a source-balanced choice of training images, and
    the side of each one's padded square in its file."""
    data = settings.data
    items = load_corpus(data.path, data.splits, data.sources, data.limit)
    order = EpochStream([item.source for item in items], settings.run.seed, data.most_of_a_source).epoch(0)
    pictures, sides = [], []
    for index in order[: settings.images]:
        picture = square(items[index].read())
        sides.append(picture.shape[-1])
        pictures.append(cut(picture, whole(sides[-1]), FINER * settings.size).half())
    return torch.cat(pictures), sides
