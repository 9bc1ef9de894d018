"""What the denoiser sees in a picture: its inner features at small noise, conditioned on the picture itself.

Features of a diffusion U-Net at small timesteps carry semantic boundaries (Baranchuk et al., ICLR 2022);
small ones are the most robust to other data (Rosnati et al. 2023, arXiv 2311.07421).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from dino_diffusion.attention import capture_attention, capture_features
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.denoiser import Denoiser, Frame
from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.sampling import noised


@torch.no_grad()
def denoiser_features(
    encoder: DinoEncoder,
    autoencoder: Autoencoder,
    denoiser: Denoiser,
    pixels: torch.Tensor,
    layers: tuple[str, ...],
    time: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Outputs of `layers` at flow time `time`, on the latent's grid: `(B, channels, h, w)`.

    `pixels` (B, 1, S, S) is a model view in [0, 1]. The noise is the same for every picture of the batch
    and comes from the CPU `generator`, so a picture's features do not depend on its neighbours.
    """
    latents = autoencoder.encode(pixels)
    encoded = encoder(pixels)
    frames = torch.tensor([Frame(size=pixels.shape[-1]).numbers()], device=pixels.device).expand(
        len(pixels), -1
    )
    eps = torch.randn(latents.shape[1:], generator=generator).to(latents)
    t = torch.full((len(pixels),), time, device=pixels.device)
    with capture_features(denoiser.unet, layers, device=None) as captured:
        denoiser(noised(latents, eps, time), t, denoiser.condition(encoded, frames))
    grid = latents.shape[-2:]
    maps = {record.name: record.values for record in captured}
    return torch.cat(
        [functional.interpolate(maps[name], grid, mode="bilinear", align_corners=False) for name in layers],
        dim=1,
    )


@torch.no_grad()
def self_attention(
    encoder: DinoEncoder,
    autoencoder: Autoencoder,
    denoiser: Denoiser,
    pixels: torch.Tensor,
    time: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Self-attention on the latent's grid, mean over heads and layers: `(B, h * w, h * w)`, rows sum to 1."""
    latents = autoencoder.encode(pixels)
    frames = torch.tensor([Frame(size=pixels.shape[-1]).numbers()], device=pixels.device).expand(
        len(pixels), -1
    )
    eps = torch.randn(latents.shape[1:], generator=generator).to(latents)
    t = torch.full((len(pixels),), time, device=pixels.device)
    with capture_attention(denoiser.unet, kind="self", layers=[latents.shape[-1]], device=None) as maps:
        denoiser(noised(latents, eps, time), t, denoiser.condition(encoder(pixels), frames))
    return torch.stack([record.weights[:, 0] for record in maps]).mean(0)
