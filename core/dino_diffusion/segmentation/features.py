"""What the denoiser sees in a picture: its inner features at small noise, conditioned on the picture itself.

Features of a diffusion U-Net at small timesteps carry semantic boundaries (Baranchuk et al., ICLR 2022);
small ones are the most robust to other data (Rosnati et al. 2023, arXiv 2311.07421).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from dino_diffusion.attention import capture_features
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.denoiser import Denoiser, Frame
from dino_diffusion.models.encoder import DinoEncoder, EncoderOutput
from dino_diffusion.sampling import noised


@dataclass(frozen=True)
class Encoded:
    """Pictures on their way into the denoiser: `latents` (B, C, h, w), the encoder's tokens and the frames
    (B, 6) that say which part of a radiograph each shows."""

    latents: torch.Tensor
    tokens: EncoderOutput
    frames: torch.Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        pixels: torch.Tensor,
        encoder: DinoEncoder,
        autoencoder: Autoencoder,
        frames: torch.Tensor | None = None,
    ) -> Encoded:
        """From model views `(B, 1, S, S)` in [0, 1]; of whole radiographs, if no `frames` are given."""
        latents = autoencoder.encode(pixels)
        if frames is None:
            whole = Frame(size=pixels.shape[-1]).numbers()
            frames = latents.new_tensor([whole]).expand(len(latents), -1)
        return cls(latents, encoder(pixels), frames.to(latents))

    def __getitem__(self, number: int) -> Encoded:
        """One of them, still a batch."""
        one = slice(number, number + 1)
        tokens = EncoderOutput(self.tokens.cls[one], self.tokens.patches[one])
        return Encoded(self.latents[one], tokens, self.frames[one])

    @staticmethod
    def cat(several: Sequence[Encoded]) -> Encoded:
        """All of them as one batch."""
        tokens = EncoderOutput(
            torch.cat([each.tokens.cls for each in several]),
            torch.cat([each.tokens.patches for each in several]),
        )
        latents = torch.cat([each.latents for each in several])
        return Encoded(latents, tokens, torch.cat([each.frames for each in several]))

    def pass_through(self, denoiser: Denoiser, time: float, generator: torch.Generator) -> None:
        """One denoiser pass at flow time `time`, for what can be captured on the way.

        The noise comes from the CPU `generator` and is the same for every picture of the batch, so what is
        captured of a picture does not depend on its neighbours.
        """
        eps = torch.randn(self.latents.shape[1:], generator=generator).to(self.latents)
        t = self.latents.new_full((len(self.latents),), time)
        denoiser(noised(self.latents, eps, time), t, denoiser.condition(self.tokens, self.frames))


@torch.no_grad()
def denoiser_features(
    denoiser: Denoiser, encoded: Encoded, layers: tuple[str, ...], time: float, generator: torch.Generator
) -> torch.Tensor:
    """Outputs of `layers` at flow time `time`, brought to the latent's grid: `(B, channels, h, w)`."""
    return torch.cat(layer_features(denoiser, encoded, layers, time, generator), dim=1)


@torch.no_grad()
def layer_features(
    denoiser: Denoiser, encoded: Encoded, layers: tuple[str, ...], time: float, generator: torch.Generator
) -> list[torch.Tensor]:
    """`denoiser_features` layer by layer, in the order of `layers`."""
    with capture_features(denoiser.unet, layers, device=None) as captured:
        encoded.pass_through(denoiser, time, generator)
    maps = {record.name: record.values for record in captured}
    grid = encoded.latents.shape[-2:]
    return [functional.interpolate(maps[name], grid, mode="bilinear", align_corners=False) for name in layers]
