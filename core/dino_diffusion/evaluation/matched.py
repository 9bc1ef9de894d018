"""Conditions taken from training radiographs, sources as frequent as among the images that are compared with.

The prior draws from the mixture of all sources that a model was trained on; held-out images are another
mixture, and a distance between the two is partly that between the mixtures. With these conditions it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.models import EncoderOutput


@dataclass(frozen=True, eq=False)
class TokenChoice:
    """Tokens of one of several radiographs, each as often as its weight `(N,)` says."""

    tokens: EncoderOutput
    weights: torch.Tensor

    def sample(self, count: int, generator: torch.Generator) -> EncoderOutput:
        """Of `count` radiographs, drawn with the CPU generator."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        chosen = chosen.to(self.tokens.cls.device)
        return EncoderOutput(self.tokens.cls[chosen], self.tokens.patches[chosen])


def matched(tokens: EncoderOutput, sources: Sequence[str], wanted: Sequence[str]) -> TokenChoice:
    """A choice among radiographs of `sources` (N) in which each source is as frequent as in `wanted`.

    Sources that the radiographs have none of are left out. Raises EvaluationError where that leaves nothing.
    """
    have, want = Counter(sources), Counter(wanted)
    weights = torch.tensor([want[source] / have[source] for source in sources], dtype=torch.float64)
    if not weights.any():
        raise EvaluationError(
            f"No training image is of a source of the held-out ones ({', '.join(sorted(want))}), so none "
            "matches them."
        )
    return TokenChoice(tokens, weights)
