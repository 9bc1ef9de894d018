"""What a learnt segment may look at, at every place of a picture. All of it is known without a label.

The denoiser's features as the read-out reduces them, what the read-out's own head makes of them, the
encoder's patches, where the place lies in the chest, and grey values around it. Places are told relative to
the lungs that were found without a label, so that a shift, a zoom or a turn of the picture changes little.
The lungs themselves, as sharp as they are known without a label, stand apart from these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch.nn import functional

from dino_diffusion.device import inference
from dino_diffusion.models import ModelBundle
from dino_diffusion.segmentation import local_shape
from dino_diffusion.segmentation.chest_frame import ChestFrame, chest_coordinates
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.segmentation.observation import Observation
from dino_diffusion.segmentation.outline import cut_out, outlined

FINE = 4
"""Model pixels along the side of a cell of the finer grid."""

PATCH_NUMBERS = 64
"""Leading numbers of the encoder's patches that are looked at: one example cannot weigh more of them."""

FINE_WIDTH = 5 + local_shape.WIDTH
"""Grey-value descriptors of a finer cell."""

KNOWN = 3
"""Regions known without a label: background, right and left lung."""

REACH, CENTRES, SPREAD = 1.6, 7, 0.45
"""The chest is covered by CENTRES x CENTRES Gaussian bumps from -REACH to REACH, SPREAD wide."""

PLACE_WIDTH = 2 + CENTRES**2
"""Of the coarse descriptors the last so many say where in the chest a place lies, and nothing else."""


@dataclass(frozen=True)
class Descriptors:
    """`coarse` (B, width, h, w) on the latent's grid, the others on a finer one, f = S / FINE: `fine`
    (B, FINE_WIDTH, f, f) and `known` (B, KNOWN, f, f), probabilities of what is known without a label. `area`
    (B,): how many of the finer cells one unit of area of the chest's own frame has."""

    coarse: torch.Tensor
    fine: torch.Tensor
    known: torch.Tensor
    area: torch.Tensor

    def __getitem__(self, chosen: torch.Tensor) -> Descriptors:
        return Descriptors(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def displaced(self, by: torch.Tensor) -> Descriptors:
        """As if each picture's content lay elsewhere in the chest: by `(B, 2)` in the chest's own frame."""
        places = self.coarse[:, -PLACE_WIDTH : 2 - PLACE_WIDTH] + by[:, :, None, None]
        coarse = torch.cat([self.coarse[:, :-PLACE_WIDTH], told_places(places)], dim=1)
        return replace(self, coarse=coarse)

    @classmethod
    def joined(cls, several: Sequence[Descriptors]) -> Descriptors:
        """Of all pictures; copies, so that what was computed for inference may take part in training."""
        names = (field.name for field in fields(cls))
        return cls(*(torch.cat([getattr(each, name) for each in several]).clone() for name in names))


def describe(bundle: ModelBundle, observation: Observation) -> Descriptors:
    """Of one radiograph, for a fraction of the time of a denoiser pass."""
    return _of(bundle, observation.features, observation.encoded, observation.view.pixels)


def describe_views(bundle: ModelBundle, pixels: torch.Tensor, seed: int = 0) -> Descriptors:
    """Of model views `(B, 1, S, S)`: one denoiser pass a noise level of the read-out."""
    return _of(bundle, *features_of(bundle, pixels, seed), pixels)


def features_of(bundle: ModelBundle, pixels: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, Encoded]:
    """The denoiser's features `(times, B, channels, h, w)` of model views, and what went into it."""
    layers, times = tuple(bundle.readout.config.layers), bundle.readout.config.times
    with inference(bundle.device):
        encoded = Encoded.of(pixels.to(bundle.device), bundle.encoder, bundle.autoencoder)
        features = [
            denoiser_features(
                bundle.denoiser, encoded, layers, time, torch.Generator().manual_seed(seed * 1009 + number)
            ).float()
            for number, time in enumerate(times)
        ]
        return torch.stack(features), encoded


def found_lungs(bundle: ModelBundle, features: torch.Tensor) -> torch.Tensor:
    """Background, right and left lung `(B, KNOWN, h, w)`, from features `(times, B, channels, h, w)`."""
    with inference(bundle.device):
        votes = bundle.readout(features.flatten(0, 1)).float().softmax(1)
        return votes.unflatten(0, features.shape[:2]).mean(0)


def _of(bundle: ModelBundle, features: torch.Tensor, encoded: Encoded, pixels: torch.Tensor) -> Descriptors:
    """Of whole views; `features` (times, B, channels, h, w)."""
    with inference(bundle.device):
        found = found_lungs(bundle, features)
        places = chest_coordinates(found[:, 1:])
        side = pixels.shape[-1] // FINE
        sharp = outlined(found, cut_out(found, pixels))
        known = functional.adaptive_avg_pool2d(sharp, side).to(bundle.device)
        area = ChestFrame.of(known[:, 1:]).area * side**2
        return described(bundle, features, encoded, pixels, places, known, area)


def described(
    bundle: ModelBundle,
    features: torch.Tensor,
    encoded: Encoded,
    pixels: torch.Tensor,
    places: torch.Tensor,
    known: torch.Tensor,
    area: torch.Tensor,
) -> Descriptors:
    """Of pictures `(B, 1, S, S)`; what is read from `features` is averaged over the noise levels.

    `places` (B, 2, h, w) lie in the chest's own frame; `known` and `area` as in `Descriptors`.
    """
    with inference(bundle.device):
        reduced = bundle.readout.reduce(features.flatten(0, 1))
        hidden = bundle.readout.head[:-1](reduced)
        read = torch.cat([reduced, hidden, bundle.readout.head[-1](hidden) / 3], dim=1).float()
        read = read.unflatten(0, features.shape[:2]).mean(0)
        patches = functional.interpolate(
            encoded.tokens.patches[:, :PATCH_NUMBERS].float(),
            read.shape[-2:],
            mode="bicubic",
            align_corners=False,
        )
        coarse = torch.cat([read, patches, told_places(places)], dim=1)
        return Descriptors(coarse, grey_values(pixels.to(bundle.device)), known, area)


def told_places(places: torch.Tensor) -> torch.Tensor:
    """`(B, 2, h, w)` places in the chest to what the descriptors say of them, `(B, PLACE_WIDTH, h, w)`."""
    return torch.cat([places.clamp(-3, 3), bumps(places)], dim=1)


def bumps(places: torch.Tensor) -> torch.Tensor:
    """`(B, 2, h, w)` places to `(B, CENTRES ** 2, h, w)` Gaussian bumps: places as something linear."""
    line = torch.linspace(-REACH, REACH, CENTRES, device=places.device)
    centres = torch.cartesian_prod(line, line)[None, :, :, None, None]
    return torch.exp(-(places[:, None] - centres).square().sum(2) / (2 * SPREAD**2))


def grey_values(pixels: torch.Tensor) -> torch.Tensor:
    """Views `(B, 1, S, S)` to what grey values say around each finer cell, `(B, FINE_WIDTH, S/4, S/4)`.

    Contrasts at four sizes, the local deviation, and the local shape.
    """
    cells = functional.avg_pool2d(pixels, FINE)
    side = cells.shape[-1]
    near, around, wide = (box(cells, max(1, radius)) for radius in (1, side // 32, side // 10))
    deviation = (box(cells.square(), max(1, side // 32)) - around.square()).clamp_min(0).sqrt()
    contrasts = [8 * (cells - near), 4 * (cells - around), 4 * (around - wide), 4 * (wide - 0.5)]
    shape = functional.avg_pool2d(local_shape.local_shape(pixels), FINE)
    return torch.cat([*contrasts, 8 * deviation - 0.5, 2 * shape], dim=1)


def box(maps: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over a square window, smaller at the border."""
    return functional.avg_pool2d(maps, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
