"""Movements in embedding space: between radiographs, around one, and within a class of them.

Tokens are whitened: half way along the straight line between two radiographs' CLS tokens lies one only 0.75
times as long (median of 300 pairs), as no radiograph has it. The great circle keeps the length, on which
jitter counts; the denoiser itself normalises its tokens and paints nearly the same either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from dino_diffusion.device import inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.recipe import hash_of_set
from dino_diffusion.models import EncoderOutput, ModelBundle, TokenPrior
from dino_diffusion.radiograph import Radiograph

FEWEST, MOST_COMPONENTS = 4, 192
"""Images that a class needs, and the principal components kept of it."""


def embed(bundle: ModelBundle, radiograph: Radiograph) -> EncoderOutput:
    """Tokens of one radiograph, patches pooled to the grid of the bundle's prior."""
    with inference(bundle.device):
        encoded = bundle.encoder(radiograph.model_view(bundle.size).pixels.to(bundle.device))
        return bundle.prior.pooled(EncoderOutput(encoded.cls.float(), encoded.patches.float()))


def slerp(start: torch.Tensor, end: torch.Tensor, share: float, dim: int = -1) -> torch.Tensor:
    """Along the great circle from `start` (share 0) to `end` (1), vector by vector along `dim`.

    Lengths are interpolated linearly. Vectors of opposite or equal direction go along the straight line.
    """
    lengths = [vector.norm(dim=dim, keepdim=True).clamp_min(1e-12) for vector in (start, end)]
    units = start / lengths[0], end / lengths[1]
    angle = torch.arccos((units[0] * units[1]).sum(dim, keepdim=True).clamp(-1, 1))
    sine = angle.sin()
    straight = sine < 1e-4
    sine = torch.where(straight, torch.ones_like(sine), sine)
    first = torch.where(straight, 1 - share, torch.sin((1 - share) * angle) / sine)
    second = torch.where(straight, share, torch.sin(share * angle) / sine)
    return (first * units[0] + second * units[1]) * ((1 - share) * lengths[0] + share * lengths[1])


def blend(embeddings: Sequence[EncoderOutput], weights: Sequence[float]) -> EncoderOutput:
    """Several radiographs' tokens with `weights` of a sum above 0: CLS and each patch along great circles.

    One after the other, each by its share of the weight so far: exact for two, and for more it depends a
    little on their order.
    """
    mixed, total = embeddings[0], weights[0]
    for embedding, weight in zip(embeddings[1:], weights[1:], strict=True):
        total += weight
        if weight:
            share = weight / total
            mixed = EncoderOutput(
                slerp(mixed.cls, embedding.cls, share), slerp(mixed.patches, embedding.patches, share, dim=1)
            )
    return mixed


class TokenSource(Protocol):
    """Where tokens of new radiographs come from; the generator lives on the CPU."""

    def sample(self, count: int, generator: torch.Generator) -> EncoderOutput: ...


@dataclass(frozen=True, eq=False)
class ImageClass:
    """What radiographs of one class have in common; `of`: a Gaussian over their tokens, in PCA space.

    `sha256` is that of the set of files, whatever their order and names.
    """

    prior: TokenSource
    sha256: str

    @classmethod
    def of(cls, bundle: ModelBundle, radiographs: Iterable[Radiograph]) -> ImageClass:
        """From a few dozen radiographs or more. Raises ConfigurationError for less than four."""
        # In order of the hashes: the same files under other names give the same Gaussian.
        found = sorted(((r.source.sha256, embed(bundle, r)) for r in radiographs), key=lambda pair: pair[0])
        if len(found) < FEWEST:
            raise ConfigurationError(
                f"{len(found)} radiographs are too few to tell what their class looks like; give at least "
                f"{FEWEST}, better a hundred."
            )
        tokens = EncoderOutput(
            torch.cat([encoded.cls for _, encoded in found]),
            torch.cat([encoded.patches for _, encoded in found]),
        )
        settings = bundle.prior.config
        prior = TokenPrior(
            settings.cls_width, settings.patch_width, settings.grid, min(MOST_COMPONENTS, len(found) - 1)
        )
        prior.to(bundle.device).fit(tokens)
        return cls(prior, hash_of_set(sha256 for sha256, _ in found))
