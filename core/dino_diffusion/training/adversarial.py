"""A patch discriminator beside the autoencoder: restored pictures shall have the texture of real ones.

What the latents do not hold, a decoder that learns from differences alone paints as its average, which is
blur. The discriminator judges patches (Isola et al. 2017, "pix2pix") by the hinge loss (Lim and Ye 2017), and
its share is balanced as in VQGAN (Esser et al. 2021, "Taming Transformers", eq. 7), which latent diffusion
took over (Rombach et al. 2022, app. G).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from dino_diffusion.models.autoencoder import Autoencoder

WIDTHS = (32, 64, 128)
"""Channels after each halving: a score sees patches of 38 pixels."""

DETAIL = 20.0
"""By how much detail is enlarged, to about the spread of the picture itself."""

MOST_BALANCE = 1e4
"""Bound of the balance, for a step in which the discriminator has no gradient."""


class PatchDiscriminator(nn.Module):
    """Pixels `(B, 1, H, W)` in [0, 1] to scores `(B, 1, H/8, W/8)`, one a patch; above 0 looks real.

    Beside the picture it is shown the picture's detail, enlarged: texture has a hundredth of the contrast,
    and untrained filters see nothing but the rest.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((2, *widths), widths, strict=False):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
            if layers[:-1]:  # the first layer sees how much contrast there is
                layers.append(nn.GroupNorm(8, after))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        detail = pixels - functional.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
        return self.layers(torch.cat([pixels * 2 - 1, DETAIL * detail], dim=1)).float()


@dataclass(frozen=True)
class Pass:
    """What one pass of training gives. The scores are None without a discriminator."""

    restored: torch.Tensor
    kl: torch.Tensor
    persuasion: torch.Tensor | None = None
    """Mean score of the restored pictures; its gradient reaches the autoencoder alone."""
    hinge: torch.Tensor | None = None
    """The discriminator's own loss; its gradient reaches the discriminator alone."""


class AdversarialAutoencoder(nn.Module):
    """Both networks as one module, so that one optimiser, average and checkpoint hold them."""

    def __init__(self, autoencoder: Autoencoder, discriminator: PatchDiscriminator | None = None) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator

    def forward(self, pixels: torch.Tensor, latent_noise: float) -> Pass:
        """Of pixels `(B, 1, H, W)` in [0, 1]."""
        restored, kl = self.autoencoder(pixels, latent_noise)
        if self.discriminator is None:
            return Pass(restored, kl)
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        persuasion = functional_call(self.discriminator, frozen, (restored,)).mean()
        real, made = self.discriminator(pixels), self.discriminator(restored.detach())
        hinge = (functional.relu(1 - real).mean() + functional.relu(1 + made).mean()) / 2
        return Pass(restored, kl, persuasion, hinge)


def balance(loss: torch.Tensor, adversarial: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """By what to multiply `adversarial` so that it moves the decoder's `last` weights as far as `loss`."""
    wanted, found = (torch.autograd.grad(x, last, retain_graph=True)[0].norm() for x in (loss, adversarial))
    return (wanted / (found + 1e-8)).clamp(max=MOST_BALANCE).detach()
