"""KL autoencoder for radiographs: one channel, factor 8, standardised latents.

A linear path carries most of the picture: the leading principal components of 8x8 pixel blocks (on
training radiographs eight of them alone give 35.7 dB PSNR at 256 px). diffusers' convolutional encoder
and decoder learn what the linear path misses ("residual autoencoding", DC-AE, Chen et al. 2024, arXiv
2410.10733). Training therefore starts from a good picture instead of grey, which is what makes it
possible on a CPU. Without the residual encoder the latents are known before any training, so the decoder
can be improved later without touching the denoiser.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder, DiagonalGaussianDistribution, Encoder
from torch import nn
from torch.nn import functional

FACTOR = 8
"""Pixels a latent cell spans in each direction."""

STEM = 2
"""The convolutions see 2x2 pixel blocks as channels: a quarter of the work at the finest level."""

INITIAL_LOG_VARIANCE = -10.0
"""Start of the posterior's log variance: a wider one would drown the linear path."""


DECODING = ("decoder.", "synthesis.")
"""What the names of weights begin with on which no latent depends."""


class Autoencoder(ModelMixin, ConfigMixin):
    """`encode`: pixels `(B, 1, H, W)` in [0, 1] to latents `(B, C, H/8, W/8)`; `decode` back.

    Latents are standardised per channel on the training corpus (`standardise`).
    """

    latent_mean: torch.Tensor
    latent_std: torch.Tensor

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 8,
        block_out_channels: tuple[int, ...] = (48, 96, 128),
        layers_per_block: int = 1,
        residual_encoder: bool = True,
        norm_num_groups: int = 16,
    ) -> None:
        super().__init__()
        levels = len(block_out_channels)
        shared = {
            "block_out_channels": tuple(block_out_channels),
            "layers_per_block": layers_per_block,
            "norm_num_groups": norm_num_groups,
            "mid_block_add_attention": False,
        }
        self.analysis = nn.Conv2d(1, latent_channels, FACTOR, FACTOR)
        self.synthesis = nn.ConvTranspose2d(latent_channels, 1, FACTOR, FACTOR)
        self.encoder: Encoder | None = None
        if residual_encoder:
            kinds = ("DownEncoderBlock2D",) * levels
            self.encoder = Encoder(STEM**2, latent_channels, kinds, double_z=True, **shared)
            nn.init.zeros_(self.encoder.conv_out.weight)
            nn.init.zeros_(self.encoder.conv_out.bias)
            nn.init.constant_(self.encoder.conv_out.bias[latent_channels:], INITIAL_LOG_VARIANCE)
        self.decoder = Decoder(latent_channels, STEM**2, ("UpDecoderBlock2D",) * levels, **shared)
        nn.init.zeros_(self.decoder.conv_out.weight)
        nn.init.zeros_(self.decoder.conv_out.bias)
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    @torch.no_grad()
    def fit_linear_path(self, pixels: torch.Tensor) -> None:
        """Principal components of the 8x8 blocks of `pixels` (B, 1, H, W), scaled to unit variance."""
        blocks = (
            functional.unfold(pixels, FACTOR, stride=FACTOR).transpose(1, 2).reshape(-1, FACTOR**2).double()
        )
        mean = blocks.mean(0)
        variances, components = torch.linalg.eigh((blocks - mean).T @ (blocks - mean) / (len(blocks) - 1))
        channels = self.analysis.out_channels
        basis = components.flip(1)[:, :channels].T
        # A component's sign is arbitrary; the first is made to follow brightness so that runs agree.
        basis = basis * torch.where(basis.sum(1, keepdim=True) < 0, -1.0, 1.0)
        deviation = variances.flip(0)[:channels].clamp_min(1e-12).sqrt()[:, None]
        self.analysis.weight.copy_((basis / deviation).view(channels, 1, FACTOR, FACTOR))
        assert self.analysis.bias is not None and self.synthesis.bias is not None  # both have one
        self.analysis.bias.copy_(-(basis / deviation) @ mean)
        self.synthesis.weight.copy_((basis * deviation).view(channels, 1, FACTOR, FACTOR))
        # A transposed convolution has one bias a channel; the rest of the block mean is nearly flat.
        self.synthesis.bias.copy_(mean.mean())

    def posterior(self, pixels: torch.Tensor) -> DiagonalGaussianDistribution:
        """Latent distribution before standardisation."""
        mean = self.analysis(pixels)
        if self.encoder is None:
            log_variance = torch.full_like(mean, INITIAL_LOG_VARIANCE)
        else:
            stem = functional.pixel_unshuffle(pixels * 2 - 1, STEM)
            residual, log_variance = self.encoder(stem).chunk(2, dim=1)
            mean = mean + residual
        return DiagonalGaussianDistribution(torch.cat([mean, log_variance], dim=1))

    def synthesise(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels from latents as `posterior` gives them, not clipped (training needs the gradient).

        The linear path is never in half precision, which knows no more than 256 greys between black and
        white; what the decoder adds is small enough for it.
        """
        residual = functional.pixel_shuffle(self.decoder(latents), STEM)
        with torch.autocast(latents.device.type, enabled=False):
            return self.synthesis(latents.float()) + residual

    def forward(self, pixels: torch.Tensor, latent_noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """One training pass: restored pixels from a sampled latent, and the KL divergence a latent value.

        Half of the pictures get latents spoilt by up to `latent_noise` standard deviations, so that the
        decoder also smooths what a denoiser leaves behind.
        """
        posterior = self.posterior(pixels)
        draw = torch.rand(len(pixels), 1, 1, 1, device=pixels.device)
        strength = latent_noise * (2 * draw - 1).clamp_min(0)
        spoilt = strength * self.latent_std[:, None, None] * torch.randn_like(posterior.mean)
        return self.synthesise(posterior.sample() + spoilt), posterior.kl().mean() / posterior.mean[0].numel()

    @torch.no_grad()
    def standardise(self, latents: torch.Tensor) -> None:
        """Sets the per-channel statistics from posterior means `(B, C, h, w)` of the training corpus."""
        self.latent_mean.copy_(latents.mean((0, 2, 3)))
        self.latent_std.copy_(latents.std((0, 2, 3)))

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Standardised latents (the posterior's mean). H and W must be multiples of 8."""
        latents = self.posterior(pixels).mode()
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels in [0, 1] from standardised latents."""
        latents = latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        return self.synthesise(latents).clamp(0, 1)
