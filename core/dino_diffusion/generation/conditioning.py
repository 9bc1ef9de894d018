"""Conditions made of a concept and of what may stay of an image's own tokens."""

from __future__ import annotations

import math
from typing import Any

import torch

from dino_diffusion.device import inference
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.models import Condition, EncoderOutput, ModelBundle


def concept_condition(
    bundle: ModelBundle,
    concept: Concept | None,
    frames: torch.Tensor,
    encoded: EncoderOutput | None = None,
    present: torch.Tensor | None = None,
) -> Condition:
    """A concept's vectors where the CLS token stands, an image's patch tokens beside them.

    `frames` (B, 6) from `Frame.numbers`. `encoded`: tokens of B pictures, or of one for all; None: every
    token of an image is missing. `present` (B or 1, 1 + grid^2) bool as in `Denoiser.condition`: which of the
    image's tokens stay; its first column is about CLS and matters only without a concept. `concept` None
    keeps the image's own CLS. Conditions of different concepts go into one batch (`Condition.cat`). The
    concept is not checked here, before every batch: call `Concept.check` once.
    """
    denoiser, count = bundle.denoiser, len(frames)
    if encoded is None:
        condition = denoiser.unconditional(frames)
    else:
        tokens = EncoderOutput(*(t.expand(count, *t.shape[1:]) for t in (encoded.cls, encoded.patches)))
        if present is not None:
            present = present.to(frames.device).expand(count, -1)
        condition = denoiser.condition(tokens, frames, present)
    if concept is None:
        return condition
    return with_vectors(condition, concept.vectors)


def with_vectors(condition: Condition, vectors: torch.Tensor) -> Condition:
    """The condition with `vectors` (K, width) instead of its CLS token, together as heavy as that one.

    Without the bias of -log K a concept of many vectors would outshout the patch tokens beside it: K equal
    vectors now do exactly what one does. Gradients reach the vectors.
    """
    count, tokens = len(condition.tokens), condition.tokens
    placed = vectors.to(tokens).expand(count, -1, -1)
    bias = None
    if len(vectors) > 1:
        bias = tokens.new_zeros(count, len(vectors) + tokens.shape[1] - 1)
        bias[:, : len(vectors)] = -math.log(len(vectors))
    return Condition(torch.cat([placed, tokens[:, 1:]], dim=1), condition.frame, bias)


def mean_concept(bundle: ModelBundle, pixels: torch.Tensor, name: str, **about: Any) -> Concept:
    """One vector without training: what the mean CLS token of `pixels` (N, 1, S, S) in [0, 1] becomes.

    `about`: further fields of `Concept`. This is where learning starts, and what it has to beat.
    """
    with inference(bundle.device):
        cls = torch.cat([bundle.encoder(part.to(bundle.device)).cls for part in pixels.split(8)])
    return mean_of(bundle, cls, name, **about)


def mean_of(bundle: ModelBundle, cls: torch.Tensor, name: str, **about: Any) -> Concept:
    """`mean_concept` from the pictures' CLS tokens `(N, width)`."""
    with torch.no_grad():
        vector = bundle.denoiser.mean_cls(cls.float().to(bundle.device)).float().cpu()
    return Concept(name, vector, model_id(bundle), images=len(cls), **about)
