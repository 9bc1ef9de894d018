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
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.segmentation.naming import LEFT_LUNG_PRIOR, RIGHT_LUNG_PRIOR
from dino_diffusion.segmentation.observation import Observation
from dino_diffusion.segmentation.outline import outlined
from dino_diffusion.segmentation.refine import box

FINE = 4
"""Model pixels along the side of a cell of the finer grid."""

PATCH_NUMBERS = 64
"""Leading numbers of the encoder's patches that are looked at: one example cannot weigh more of them."""

FINE_WIDTH = 5 + local_shape.WIDTH
"""Grey-value descriptors of a finer cell."""

KNOWN = 3
"""Regions known without a label: background, right and left lung."""

PRIOR_CELLS = 0.01
"""Weight of the prior's place for a lung, as a share of the picture: it decides only where none is found."""

REACH, CENTRES, SPREAD = 1.6, 7, 0.45
"""The chest is covered by CENTRES x CENTRES Gaussian bumps from -REACH to REACH, SPREAD wide."""

PLACE_WIDTH = 2 + CENTRES**2
"""Of the coarse descriptors the last so many say where in the chest a place lies, and nothing else."""


@dataclass(frozen=True)
class Descriptors:
    """`coarse` (B, width, h, w) on the latent's grid, the others on a finer one, f = S / FINE: `fine`
    (B, FINE_WIDTH, f, f) and `known` (B, KNOWN, f, f), probabilities of what is known without a label."""

    coarse: torch.Tensor
    fine: torch.Tensor
    known: torch.Tensor

    def __getitem__(self, chosen: torch.Tensor) -> Descriptors:
        return Descriptors(self.coarse[chosen], self.fine[chosen], self.known[chosen])

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
    layers, times = tuple(bundle.readout.config.layers), bundle.readout.config.times
    with inference(bundle.device):
        encoded = Encoded.of(pixels.to(bundle.device), bundle.encoder, bundle.autoencoder)
        features = [
            denoiser_features(
                bundle.denoiser, encoded, layers, time, torch.Generator().manual_seed(seed * 1009 + number)
            ).float()
            for number, time in enumerate(times)
        ]
    return _of(bundle, torch.stack(features), encoded, pixels)


def _of(bundle: ModelBundle, features: torch.Tensor, encoded: Encoded, pixels: torch.Tensor) -> Descriptors:
    """`features` (times, B, channels, h, w); what is read from them is averaged over the noise levels."""
    with inference(bundle.device):
        reduced = bundle.readout.reduce(features.flatten(0, 1))
        hidden = bundle.readout.head[:-1](reduced)
        logits = bundle.readout.head[-1](hidden)
        read = torch.cat([reduced, hidden, logits / 3], dim=1).float()
        read = read.unflatten(0, features.shape[:2]).mean(0)
        found = logits.float().softmax(1).unflatten(0, features.shape[:2]).mean(0)
        patches = functional.interpolate(
            encoded.tokens.patches[:, :PATCH_NUMBERS].float(),
            read.shape[-2:],
            mode="bicubic",
            align_corners=False,
        )
        coarse = torch.cat([read, patches, told_places(chest_coordinates(found[:, 1:]))], dim=1)
        fine = grey_values(pixels.to(bundle.device))
        known = functional.adaptive_avg_pool2d(outlined(found, pixels), fine.shape[-1])
        return Descriptors(coarse, fine, known.to(bundle.device))


def chest_coordinates(lungs: torch.Tensor) -> torch.Tensor:
    """Places `(B, 2, h, w)` in the chest's own frame, from probabilities `(B, 2, h, w)` of both lungs.

    The first coordinate is -1 at the right lung's centre and 1 at the left one's, along the line through
    them; the second is across it, in units of twice the lungs' standard deviation, down the body.
    """
    return _chest(lungs)[0]


def chest_area(lungs: torch.Tensor) -> torch.Tensor:
    """Cells `(B,)` in one unit of area of the chest's own frame, from the same probabilities."""
    _, half, spread = _chest(lungs)
    return (half * 2 * spread)[:, 0, 0] * (lungs.shape[-1] / 2) ** 2


def _chest(lungs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places, and the frame's units across the body and along half of it, of a picture from -1 to 1."""
    side = lungs.shape[-1]
    centres = (torch.arange(side, device=lungs.device) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    weight = lungs.square()
    mass, prior = weight.sum((2, 3)), PRIOR_CELLS * side * side
    ellipses = (RIGHT_LUNG_PRIOR, LEFT_LUNG_PRIOR)
    prior_x, prior_y = (
        lungs.new_tensor(v) * 2 - 1 for v in zip(*((e.x, e.y) for e in ellipses), strict=True)
    )
    lung_x = ((weight * x).sum((2, 3)) + prior * prior_x) / (mass + prior)
    lung_y = ((weight * y).sum((2, 3)) + prior * prior_y) / (mass + prior)
    across = torch.stack([lung_x[:, 1] - lung_x[:, 0], lung_y[:, 1] - lung_y[:, 0]], dim=1)
    half = across.norm(dim=1).clamp_min(0.2)[:, None, None] / 2
    unit = functional.normalize(across, dim=1)[:, :, None, None]
    dx, dy = x - lung_x.mean(1)[:, None, None], y - lung_y.mean(1)[:, None, None]
    along = dx * unit[:, 0] + dy * unit[:, 1]
    down = dy * unit[:, 0] - dx * unit[:, 1]
    both = weight.sum(1)
    variance = (both * down.square()).sum((1, 2)) + 2 * prior * RIGHT_LUNG_PRIOR.half_height**2
    spread = (variance / (both.sum((1, 2)) + 2 * prior)).sqrt().clamp_min(0.1)[:, None, None]
    return torch.stack([along / half, down / (2 * spread)], dim=1), half, spread


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
