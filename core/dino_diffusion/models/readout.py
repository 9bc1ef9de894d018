"""The light head that reads lungs from the denoiser's features; `training/readout` trains it label-free."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from dino_diffusion.models.view_checks import ViewChecks


class LungReadout(ModelMixin, ConfigMixin):
    """Features `(B, width, h, w)` to logits `(B, 3, h, w)`: background, right lung, left lung.

    The features' leading principal components (`reduce`), at unit variance, go through three small
    convolutions. `layers` and `times` say which of the denoiser's features it was trained on. `checks` tell
    whether the picture is what the head was made for; `checked` are the token widths that they read, None
    for a head without checks.
    """

    mean: torch.Tensor
    components: torch.Tensor

    @register_to_config
    def __init__(
        self,
        width: int = 352,
        kept: int = 64,
        hidden: int = 48,
        layers: tuple[str, ...] = ("up_blocks.0", "up_blocks.1", "up_blocks.2"),
        times: tuple[float, ...] = (0.05, 0.15),
        checked: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.checks = None if checked is None else ViewChecks(*checked)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.eye(width, kept))
        self.head = nn.Sequential(
            nn.Conv2d(kept, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, 3, 1),
        )

    @torch.no_grad()
    def fit_reduction(self, features: torch.Tensor) -> None:
        """Principal components of `(B, width, h, w)`, each divided by its standard deviation."""
        cells = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).double()
        self.mean.copy_(cells.mean(0))
        centred = cells - cells.mean(0)
        variances, directions = torch.linalg.eigh(centred.T @ centred / (len(cells) - 1))
        kept = self.config.kept
        deviation = variances.flip(0)[:kept].clamp_min(1e-8).sqrt()
        self.components.copy_(directions.flip(1)[:, :kept] / deviation)

    def reduce(self, features: torch.Tensor) -> torch.Tensor:
        """`(B, width, h, w)` to `(B, kept, h, w)`."""
        weight = self.components.T[..., None, None]
        return functional.conv2d(features - self.mean[:, None, None], weight)

    def component_scale(self) -> torch.Tensor:
        """Standard deviation `(kept,)` of each component before it was divided by it."""
        return 1 / self.components.norm(dim=0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.reduce(features))
