"""A Gaussian over condition tokens: where new radiographs come from when no image is named.

Fitted on the training embeddings (CLS and pooled patch tokens together, in their principal components),
it holds no single image's embedding. Sampling it and generating from the sample is the simplest of the
generators over self-supervised embeddings (RCG, Li et al. 2023, is the strong one).
"""

from __future__ import annotations

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dino_diffusion.models.encoder import EncoderOutput

SPARE_COMPONENTS = 64
"""Beyond those kept, for the randomised decomposition (Halko et al. 2011) to be as good as exact."""


class TokenPrior(ModelMixin, ConfigMixin):
    """`sample(n, generator)` draws an `EncoderOutput` of n plausible radiographs."""

    mean: torch.Tensor
    factors: torch.Tensor

    @register_to_config
    def __init__(
        self, cls_width: int = 192, patch_width: int = 64, grid: int = 4, components: int = 48
    ) -> None:
        super().__init__()
        width = cls_width + patch_width * grid * grid
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("factors", torch.zeros(components, width))
        # diffusers asks a model's first parameter for its dtype and device.
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    @torch.no_grad()
    def fit(self, encoded: EncoderOutput) -> None:
        """From the tokens of n radiographs, n above `components`."""
        tokens = self.flat(encoded).double()
        centred = tokens - tokens.mean(0)
        kept = self.config.components
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            # Thousands of tokens of thousands of numbers: all of their components would take minutes.
            _, values, components = torch.svd_lowrank(
                centred / (len(tokens) - 1) ** 0.5, min(kept + SPARE_COMPONENTS, *centred.shape), niter=8
            )
        self.mean.copy_(tokens.mean(0))
        self.factors.copy_(values[:kept, None] * components.T[:kept])

    def sample(self, count: int, generator: torch.Generator) -> EncoderOutput:
        """Tokens of `count` new radiographs; the generator lives on the CPU."""
        return self.tokens(self.mean + self._deviation(count, generator))

    def vary(self, encoded: EncoderOutput, amount: float, generator: torch.Generator) -> EncoderOutput:
        """A neighbour of each of `encoded`, pooled: 0 the same tokens, 1 an independent draw of the prior.

        mean + sqrt(1 - a^2) (x - mean) + a (draw - mean), an autoregressive step (preconditioned
        Crank-Nicolson, Cotter et al. 2013) that keeps the prior's spread; adding noise alone would widen it.
        """
        noise = self._deviation(len(encoded.cls), generator)
        centred = self.flat(encoded) - self.mean
        return self.tokens(self.mean + math.sqrt(1 - amount**2) * centred + amount * noise)

    def coordinates(self, encoded: EncoderOutput) -> torch.Tensor:
        """Principal coordinates `(B, components)` at unit variance, leading ones first."""
        return (
            (self.flat(encoded) - self.mean) @ self.factors.T / self.factors.square().sum(1).clamp_min(1e-12)
        )

    def pooled(self, encoded: EncoderOutput) -> EncoderOutput:
        """The same tokens on this prior's grid of patches."""
        return self.tokens(self.flat(encoded))

    def _deviation(self, count: int, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(count, len(self.factors), generator=generator).to(self.mean)
        return self.scale * noise @ self.factors

    def flat(self, encoded: EncoderOutput) -> torch.Tensor:
        """`(B, width)`: CLS, then the pooled patches row by row."""
        return torch.cat([encoded.cls, encoded.pooled(self.config.grid).flatten(1)], dim=1)

    def tokens(self, flat: torch.Tensor) -> EncoderOutput:
        """What `flat` flattened, its patches on this prior's grid."""
        cls, patches = flat.split([self.config.cls_width, flat.shape[1] - self.config.cls_width], dim=1)
        grid = self.config.grid
        return EncoderOutput(cls, patches.unflatten(1, (grid, grid, -1)).permute(0, 3, 1, 2).contiguous())
