"""A complete model bundle with random weights, small enough that a picture takes a fraction of a second.

It shows that the parts work together, never how good they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import Dinov2Config, Dinov2Model, PreTrainedModel

from dino_diffusion.models import Autoencoder, Denoiser, DinoEncoder, ModelBundle, TokenPrior
from dino_diffusion.models.readout import LungReadout

SIZE = 64
CLS_WIDTH, PATCH_WIDTH, TOKEN_GRID, LATENT_CHANNELS = 24, 12, 4, 4
WIDTHS = (16, 32, 32)
CARD = "# Tiny bundle\n\nRandom weights, for tests.\n"


def tiny_bundle(seed: int = 0, token_grid: int = TOKEN_GRID) -> ModelBundle:
    """Fresh every time; `token_grid` 0 conditions on CLS alone. Leaves torch's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = DinoEncoder(tiny_backbone(), 56, CLS_WIDTH, PATCH_WIDTH)
        autoencoder = tiny_autoencoder()
        denoiser = Denoiser(
            latent_channels=LATENT_CHANNELS,
            block_out_channels=WIDTHS,
            head_width=16,
            token_width=32,
            cls_width=CLS_WIDTH,
            patch_width=PATCH_WIDTH,
            token_grid=token_grid,
            norm_num_groups=8,
        )
        prior = TokenPrior(CLS_WIDTH, PATCH_WIDTH, TOKEN_GRID, components=6)
        prior.mean.normal_()
        prior.factors.normal_()
        readout = LungReadout(width=sum(WIDTHS), hidden=8, checked=(CLS_WIDTH, PATCH_WIDTH))
        return ModelBundle(encoder, autoencoder, denoiser, prior, readout, size=SIZE)


def saved_tiny_bundle(folder: Path, seed: int = 0) -> Path:
    """The tiny bundle as a folder that `--bundle` takes."""
    tiny_bundle(seed).save_pretrained(folder, card=CARD)
    return folder


def tiny_backbone() -> PreTrainedModel:
    """Two blocks of a DINOv2, patches of 14 pixels."""
    config = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=56,
        patch_size=14,
    )
    return Dinov2Model(config).eval()


def tiny_autoencoder() -> Autoencoder:
    """Its linear path is fitted to smooth pictures, so that it restores something already."""
    autoencoder = Autoencoder(LATENT_CHANNELS, block_out_channels=(16, 16, 16), norm_num_groups=8).eval()
    pictures = torch.stack([torch.from_numpy(smooth_picture(seed)) for seed in range(16)])[:, None]
    autoencoder.fit_linear_path(pictures)
    with torch.no_grad():
        autoencoder.standardise(autoencoder.posterior(pictures).mode())
    return autoencoder


def smooth_picture(seed: int = 0, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """`(height, width)` float32 in [0, 1]: a few broad waves that differ with the seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    waves = [
        np.sin(
            2 * np.pi * (rng.uniform(0.3, 1.5) * rows + rng.uniform(-1.5, 1.5) * columns) + rng.uniform(0, 6)
        )
        for _ in range(3)
    ]
    return (0.5 + 0.15 * np.sum(waves, axis=0)).astype(np.float32)
