"""Training of the lung head without a label.

1. Clusters over the corpus, of denoiser features and encoder patches on a fine grid together: k-means at
   several counts; each cluster is as much lung as its cells lie inside the prior ellipses
   (`segmentation/naming.py`). The mean over the clusterings is a soft map an image; no image's own lungs are
   known to anyone. The patches only help to make these labels: the head reads the denoiser alone.
2. Self-training: over the corpus, the cells with the highest values are lung, as many as lungs take of a
   frontal picture on average (`lung_area`). The head learns the cells clear of that border, on the images
   and on altered copies (shift, zoom, rotation, squash, gamma, inversion, black surroundings), the
   pseudo-labels altered alike. What it then says of the unaltered images, averaged with the maps, makes
   the labels of the next round.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from dino_diffusion.alterations import draw_alteration
from dino_diffusion.crop import cut, whole
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.denoiser import Denoiser
from dino_diffusion.models.encoder import DinoEncoder, EncoderOutput
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.segmentation.naming import lung_prior
from dino_diffusion.segmentation.shape import part_lungs
from dino_diffusion.training.corpus import load_corpus
from dino_diffusion.training.settings import ReadoutSettings
from dino_diffusion.training.stream import EpochStream
from dino_diffusion.training.view_checks import fit_view_checks
from dino_diffusion.training.views import square

log = logging.getLogger(__name__)

CLUSTERED_CELLS = 30_000
BATCH = 8
REDUCED_ON = 10
"""Batches whose features decide the principal components."""


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
    pixels = _views(settings, denoiser)
    for model in (encoder, autoencoder, denoiser):
        model.eval().to(device)

    def encode(batch: torch.Tensor) -> Encoded:
        return Encoded.of(batch.to(device), encoder, autoencoder)

    def features(encoded: Encoded, number: int) -> torch.Tensor:
        time = settings.times[number % len(settings.times)]
        generator = torch.Generator().manual_seed(settings.run.seed * 7919 + number)
        return denoiser_features(denoiser, encoded, settings.layers, time, generator).cpu()

    batches = pixels.split(BATCH)
    first = torch.cat([features(encode(batch), i) for i, batch in enumerate(batches[:REDUCED_ON])])
    readout = LungReadout(
        first.shape[1],
        settings.components,
        settings.hidden,
        settings.layers,
        settings.times,
        checked=(encoder.cls_width, encoder.patch_width),
    )
    readout.fit_reduction(first)
    plain, patches = [], []
    for number, batch in enumerate(tqdm(batches, "features", disable=quiet)):
        plain.append(readout.reduce(features(encode(batch), number)))
        if settings.patch_image_size:
            with torch.no_grad():
                patches.append(encoder(batch.to(device), settings.patch_image_size).patches.cpu())
    alterations = [draw_alteration(rng) for _ in range(len(pixels) * settings.copies)]
    altered = []
    starts = range(0, len(alterations), BATCH)
    for number, start in enumerate(tqdm(starts, "features of altered copies", disable=quiet)):
        part = range(start, min(start + BATCH, len(alterations)))
        pictures = torch.cat([alterations[i].picture(pixels[i % len(pixels)][None]) for i in part])
        altered.append(readout.reduce(features(encode(pictures), number)))

    own_features = torch.cat(plain)
    clustered = [own_features * readout.component_scale()[:, None, None]]
    if patches:
        clustered.append(torch.cat(patches) * encoder.patch_whitening.scale.cpu()[:, None, None])
    soft = cluster_maps(clustered, settings.clusters, settings.run.seed)
    for number in range(settings.rounds):
        targets = targets_of(soft, settings.lung_area, settings.undecided)
        warped = torch.cat([a.labels(targets[i % len(targets)][None]) for i, a in enumerate(alterations)])
        train_head(readout.head, torch.cat([*plain, *altered]), torch.cat([targets, warped]), settings)
        with torch.no_grad():
            own = torch.cat(
                [readout.head(part).softmax(1)[:, 1:].sum(1, keepdim=True) for part in own_features.split(64)]
            )
        soft = (soft + own) / 2
        log.info("self-training round %d of %d", number + 1, settings.rounds)

    @torch.no_grad()
    def tokens(batch: torch.Tensor) -> EncoderOutput:
        encoded = encoder(batch.to(device))
        return EncoderOutput(encoded.cls.cpu(), encoded.patches.cpu())

    readout.checks = fit_view_checks(pixels, tokens, rng)
    return readout.eval()


def cluster_maps(features: list[torch.Tensor], clusters: tuple[int, ...], seed: int) -> torch.Tensor:
    """Soft lung maps `(B, 1, h, w)` of corpus-level clusters, named by the prior.

    `features`: one or more `(B, D, h', w')`, brought to the first one's grid; each as a whole gets the
    same variance, its dimensions keep their own.
    """
    count, _, rows, columns = features[0].shape
    equal = [
        functional.interpolate(f / f.var((0, 2, 3)).sum().sqrt(), (rows, columns), mode="bicubic")
        for f in features
    ]
    joined = torch.cat(equal, dim=1)
    cells = joined.permute(0, 2, 3, 1).reshape(-1, joined.shape[1])
    inside = lung_prior(rows).flatten().repeat(count)
    chosen = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))[:CLUSTERED_CELLS]
    soft = torch.zeros(len(cells))
    for index, k in enumerate(clusters):
        centres, found = kmeans2(cells[chosen].numpy(), k, minit="++", seed=seed + index, iter=15)
        members, centre = torch.from_numpy(found).long(), torch.from_numpy(centres).float()
        lung = torch.zeros(k).index_add_(0, members, inside[chosen].float())
        share = lung / torch.bincount(members, minlength=k).clamp_min(1)
        nearest = torch.cat([torch.cdist(part, centre).argmin(1) for part in cells.split(65536)])
        soft += share[nearest] / len(clusters)
    return soft.view(count, 1, rows, columns)


def targets_of(soft: torch.Tensor, lung_area: float, undecided: float) -> torch.Tensor:
    """Targets and their weight `(B, 4, h, w)`: background, right, left, and 1 where the map is confident.

    Over the corpus, the `lung_area` share of all cells with the highest values is lung: what a value means
    depends on the clusters, how large lungs are does not. The cells around that border, `undecided` of
    all, get no target, and neither does a speck away from the lungs.
    """
    shares = torch.tensor([1 - lung_area - undecided / 2, 1 - lung_area, 1 - lung_area + undecided / 2])
    low, border, high = soft.flatten().quantile(shares).tolist()
    targets = torch.zeros(len(soft), 4, *soft.shape[-2:])
    for place, values in zip(targets, soft[:, 0], strict=True):
        sides = torch.from_numpy(part_lungs(values.numpy(), border))
        place[1] = (values > high) & (sides == 1)
        place[2] = (values > high) & (sides == 2)
        place[0] = values <= low
        place[3] = place[:3].sum(0)
    return targets


def train_head(
    head: nn.Module, features: torch.Tensor, targets: torch.Tensor, settings: ReadoutSettings
) -> None:
    """Cross-entropy on confident cells; a fresh cosine schedule each call, no fresh head."""
    run = settings.run
    optimiser = torch.optim.AdamW(head.parameters(), run.lr, weight_decay=run.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, run.steps)
    stream = EpochStream([""] * len(features), run.seed)
    for step in range(run.steps):
        chosen = torch.from_numpy(stream.batch(step, run.batch))
        target, weight = targets[chosen].split([3, 1], dim=1)
        loss = -(target * head(features[chosen]).log_softmax(1)).sum(1, keepdim=True)
        loss = (loss * weight).sum() / weight.sum().clamp_min(1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _views(settings: ReadoutSettings, denoiser: Denoiser) -> torch.Tensor:
    """Whole views of a source-balanced choice of training images."""
    data = settings.data
    items = load_corpus(data.path, data.splits, data.sources, data.limit)
    order = EpochStream([item.source for item in items], settings.run.seed, data.most_of_a_source).epoch(0)
    pictures = (square(items[index].read()) for index in order[: settings.images])
    return torch.cat([cut(picture, whole(picture.shape[-1]), settings.size) for picture in pictures])
