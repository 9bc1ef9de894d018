"""Does the trained denoiser matter? Bundles with one part replaced, everything else as it ships.

Each stands in for a bundle wherever one is taken, so training recipe, post-processing and clock are the very
same: a denoiser of random weights, the encoder's patches instead of a denoiser, and clusters instead of
the learnt head, named by the prior or, by an oracle, from the reference mask itself.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import nn
from torch.nn import functional

from dino_diffusion.evaluation.overlap import LUNGS
from dino_diffusion.models import Denoiser, ModelBundle
from dino_diffusion.models.encoder import EncoderOutput
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.segmentation.naming import lung_prior

PATCHES = "patches"


def random_denoiser(bundle: ModelBundle, seed: int = 0) -> ModelBundle:
    """The bundle with a denoiser of the same shape that was never trained; its read-out does not fit yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh: Any = Denoiser.from_config(bundle.denoiser.config)
    return dataclasses.replace(bundle, denoiser=fresh.to(bundle.device))


def patches_alone(bundle: ModelBundle, image_size: int | None = None) -> ModelBundle:
    """The bundle with `PatchesAlone` in its denoiser's place; its read-out does not fit yet.

    `image_size`: pixels along the side of the picture that the encoder sees, a multiple of its patches';
    None for what the bundle gives it.
    """
    encoder = copy.deepcopy(bundle.encoder)
    encoder.image_size = image_size or encoder.image_size
    stand_in: Any = PatchesAlone(bundle.denoiser)
    return dataclasses.replace(bundle, encoder=encoder, denoiser=stand_in)


class PatchesAlone(nn.Module):
    """Takes a denoiser's place and passes on nothing but the encoder's patch tokens, on the latent's grid.

    Its one layer is called `patches`.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.config = denoiser.config
        self.unet = nn.Sequential(OrderedDict({PATCHES: nn.Identity()}))
        self.register_parameter("place", nn.Parameter(next(denoiser.parameters()).new_zeros(1)))

    def condition(self, encoded: EncoderOutput, frames: torch.Tensor) -> torch.Tensor:
        """The patch tokens `(B, width, rows, columns)`."""
        return encoded.patches

    def forward(self, latents: torch.Tensor, t: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        grid = latents.shape[-2:]
        return self.unet(functional.interpolate(patches, grid, mode="bicubic", align_corners=False))


class ClusterReadout(nn.Module):
    """Takes a read-out's place: the nearest of `centres` (k, kept) decides, not a learnt head.

    Each cluster counts once in the left and once in the right half of the picture, so `names` (2 k, 3) holds
    the shares of background, right and left lung of 2 k regions.
    """

    def __init__(self, readout: LungReadout, centres: torch.Tensor, names: torch.Tensor) -> None:
        super().__init__()
        self.config, self.readout, self.centres, self.names = readout.config, readout, centres, names
        self.checks = None

    def regions(self, features: torch.Tensor) -> torch.Tensor:
        """Features `(B, width, h, w)` to region numbers `(B, h, w)`."""
        reduced = scaled(self.readout, features)
        cells = reduced.permute(0, 2, 3, 1)
        nearest = torch.cdist(cells.flatten(0, 2), self.centres.to(cells)).argmin(1).view(cells.shape[:3])
        in_right_half = torch.arange(cells.shape[2], device=cells.device) >= cells.shape[2] // 2
        return nearest + len(self.centres) * in_right_half

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits `(B, 3, h, w)`."""
        found = self.names.to(features)[self.regions(features)].permute(0, 3, 1, 2)
        return found.clamp_min(1e-4).log()


def scaled(readout: LungReadout, features: torch.Tensor) -> torch.Tensor:
    """Principal components `(B, kept, h, w)` of features, each with its own variance."""
    return readout.reduce(features) * readout.component_scale()[:, None, None]


def fit_clusters(readout: LungReadout, features: torch.Tensor, count: int, seed: int = 0) -> ClusterReadout:
    """k-means over a corpus' features `(B, width, h, w)`, named by the prior: a region is as much lung as
    its cells lie inside the ellipses, and right or left by the half of the picture."""
    reduced = scaled(readout, features)
    cells = reduced.permute(0, 2, 3, 1).flatten(0, 2)
    centres, _ = kmeans2(cells.cpu().double().numpy(), count, minit="++", seed=seed, iter=15)
    clusters = ClusterReadout(readout, torch.from_numpy(centres).float(), torch.zeros(2 * count, 3))
    inside = lung_prior(features.shape[-1])
    columns = torch.arange(features.shape[-1])
    right = inside & (columns < len(columns) // 2)
    lungs = torch.stack([~inside, right, inside & ~right])
    return named(clusters, features, lungs.expand(len(features), -1, -1, -1))


def named_by_oracle(
    clusters: ClusterReadout, features: torch.Tensor, reference: torch.Tensor
) -> ClusterReadout:
    """The same clusters, each region as much lung as its cells are in the image's own mask.

    `features` (times, width, h, w) of one image; `reference` (3, h, w) the mask's shares of a cell, in the
    model's view. It has seen the answer: a figure to be reported apart, never as label-free.
    """
    return named(clusters, features, reference.expand(len(features), -1, -1, -1))


def named(clusters: ClusterReadout, features: torch.Tensor, lungs: torch.Tensor) -> ClusterReadout:
    """`clusters` named by the mean of `lungs` (B, 3, h, w) over their cells; unseen ones are background."""
    regions = clusters.regions(features).flatten().cpu()
    values = lungs.float().permute(0, 2, 3, 1).reshape(-1, 3).cpu()
    names = torch.zeros_like(clusters.names).index_add_(0, regions, values)
    count = torch.bincount(regions, minlength=len(names))
    names = names / count.clamp_min(1)[:, None]
    names[count == 0, 0] = 1
    return ClusterReadout(clusters.readout, clusters.centres, names)


def cells_of(labels: np.ndarray) -> torch.Tensor:
    """Labels `(H, W)` as `(1, 3, H, W)` float: background, right and left lung."""
    lungs = np.stack([np.isin(labels, values) for values in LUNGS.values()])
    return torch.from_numpy(np.concatenate([~lungs.any(0, keepdims=True), lungs])[None]).float()
