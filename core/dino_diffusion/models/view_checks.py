"""Is it a frontal chest radiograph, the right way round, bone bright? The encoder's tokens alone tell.

`training/view_checks` fits them without a label, on pictures and on altered copies of them.
"""

from __future__ import annotations

import torch
from torch import nn

from dino_diffusion.models.encoder import EncoderOutput

SIDES_GRID, VIEW_GRID = 6, 4
"""Patches are pooled to these grids: to compare the two halves, and to see what is where."""

CLS_NUMBERS, PATCH_NUMBERS = 192, 64
"""Leading numbers of a token that are looked at, at most: a few hundred pictures decide on each."""


class ViewChecks(nn.Module):
    """Three scores a picture, above 0 where a warning is due.

    `width` of the CLS token and `patch_width` of the patches, of which they read the leading numbers.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    borders: torch.Tensor

    def __init__(self, width: int, patch_width: int) -> None:
        super().__init__()
        self.width, self.patch_width = min(width, CLS_NUMBERS), min(patch_width, PATCH_NUMBERS)
        seen = self.width + self.patch_width * VIEW_GRID**2
        self.register_buffer("mean", torch.zeros(seen))
        self.register_buffer("scale", torch.ones(seen))
        self.register_buffer("borders", torch.zeros(3))
        self.sides = nn.Linear(self.patch_width * SIDES_GRID * (SIDES_GRID // 2), 1, bias=False)
        self.view = nn.Linear(seen, 1)
        # Until fitted nothing counts as a negative, which would be turned round before it is read.
        self.polarity = nn.utils.skip_init(nn.Linear, seen, 1)
        nn.init.zeros_(self.polarity.weight)
        nn.init.zeros_(self.polarity.bias)

    def mirrored(self, tokens: EncoderOutput) -> torch.Tensor:
        """`(B,)`: the heart and the stomach seem to lie on the wrong side."""
        return self.sides(side_difference(self.read(tokens)))[:, 0] - self.borders[0]

    def negative(self, tokens: EncoderOutput) -> torch.Tensor:
        """`(B,)`: the grey values run the wrong way, bone is dark."""
        return self.polarity(self._standardised(tokens))[:, 0]

    def foreign(self, tokens: EncoderOutput) -> torch.Tensor:
        """`(B,)`: turned, cut, scrambled, or far from anything seen in training."""
        seen = self._standardised(tokens)
        turned = self.view(seen)[:, 0] - self.borders[1]
        return torch.maximum(turned, seen.square().mean(1) / self.borders[2].clamp_min(1e-6) - 1)

    def read(self, tokens: EncoderOutput) -> EncoderOutput:
        """What the checks see of them."""
        return EncoderOutput(tokens.cls[:, : self.width], tokens.patches[:, : self.patch_width])

    def _standardised(self, tokens: EncoderOutput) -> torch.Tensor:
        return (view_tokens(self.read(tokens)) - self.mean) / self.scale


def side_difference(tokens: EncoderOutput) -> torch.Tensor:
    """`(B, n)`: each place in the picture's left half less its counterpart in the right one.

    Mirroring the picture turns its sign, so what is the same on both sides cannot mislead.
    """
    places = tokens.pooled(SIDES_GRID).unflatten(1, (SIDES_GRID, SIDES_GRID))
    return (places - places.flip(2))[:, :, : SIDES_GRID // 2].flatten(1)


def view_tokens(tokens: EncoderOutput) -> torch.Tensor:
    """`(B, n)`: CLS and the pooled patches."""
    return torch.cat([tokens.cls, tokens.pooled(VIEW_GRID).flatten(1)], dim=1)
