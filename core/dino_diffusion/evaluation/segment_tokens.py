"""Lungs from tokens: what the denoiser's cross-attention would answer to words that were never there.

The model stays as it is. A few tokens a class are optimised until its queries attend to them as labels say,
which are no one's drawing (OVAM, CVPR 2024, and SLiMe, ICLR 2024, optimise tokens on a mask).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.attention_processor import Attention
from torch import nn
from torch.nn import functional

from dino_diffusion.attention import capture_features
from dino_diffusion.models import Denoiser
from dino_diffusion.segmentation.features import Encoded

TOKENS = 16
"""A class."""

STEPS, BATCH, RATE = 400, 8, 0.05

Queries = list[torch.Tensor]
"""Of each cross-attention layer, `(B, channels, h, w)`."""


class SegmentTokens(nn.Module):
    """Tokens `(classes, TOKENS, width)` that a denoiser's cross-attention layers are asked for."""

    def __init__(self, denoiser: Denoiser, classes: int) -> None:
        super().__init__()
        found = (module for name, module in denoiser.unet.named_modules() if name.endswith("attn2"))
        self.attentions: list[Attention] = list(found)  # not registered: they belong to the denoiser
        self.tokens = nn.Parameter(torch.randn(classes, TOKENS, self.attentions[0].to_k.in_features))

    def forward(self, queries: Queries, grid: tuple[int, int]) -> torch.Tensor:
        """Logits `(B, classes, *grid)`: how well each place's queries match a class' tokens, over all heads
        and layers."""
        total = torch.zeros(())
        for attention, query in zip(self.attentions, queries, strict=True):
            keys = attention.to_k(self.tokens).unflatten(-1, (attention.heads, -1))
            asked = query.unflatten(1, (attention.heads, -1))
            matches = torch.einsum("bedyx,cned->becnyx", asked, keys) * attention.scale
            heard = matches.logsumexp(3).mean(1)
            total = total + functional.interpolate(heard, grid, mode="bilinear", align_corners=False)
        return total / len(self.attentions)


@torch.no_grad()
def queries_of(denoiser: Denoiser, encoded: Encoded, time: float, generator: torch.Generator) -> Queries:
    """What each cross-attention layer asks at flow time `time`, in the order of `SegmentTokens`."""
    names = [f"{name}.to_q" for name, _ in denoiser.unet.named_modules() if name.endswith("attn2")]
    with capture_features(denoiser.unet, names, device=None) as captured:
        encoded.pass_through(denoiser, time, generator)
    asked = {record.name: record.values for record in captured}
    return [asked[name] for name in names]


def fit_tokens(
    denoiser: Denoiser, queries: Sequence[Queries], shares: torch.Tensor, seed: int = 0
) -> SegmentTokens:
    """Tokens whose logits give `shares` (N, classes, h, w), from the queries of N pictures."""
    layers = [torch.cat(layer) for layer in zip(*queries, strict=True)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokens = SegmentTokens(denoiser, shares.shape[1]).to(layers[0].device)
    optimiser = torch.optim.Adam([tokens.tokens], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        chosen = torch.randint(len(shares), (BATCH,), generator=generator)
        logits = tokens([layer[chosen] for layer in layers], shares.shape[-2:])
        loss = -(shares[chosen].to(logits) * logits.log_softmax(1)).sum(1).mean()
        # Of the tokens alone: nothing is left behind in the model, which others share.
        (tokens.tokens.grad,) = torch.autograd.grad(loss, [tokens.tokens])
        optimiser.step()
        schedule.step()
    return tokens.requires_grad_(False)
