"""New radiographs: from the tokens of a real one, or from the bundle's prior over tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from dino_diffusion.device import in_batches, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import Condition, EncoderOutput, Frame, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SAMPLERS, SamplingStep, guided, initial_noise, time_grid

DEFAULT_STEPS, DEFAULT_GUIDANCE, DEFAULT_SAMPLER = 16, 2.0, "dpmpp_2m"
GUIDANCE_INTERVAL = (0.1, 0.9)
"""Guidance at the ends of the path costs diversity (noise) and detail (clean) and gains nothing."""


@dataclass(frozen=True)
class Synthetic:
    """A synthetic radiograph, float32 `(size, size)` in [0, 1], and its recipe."""

    pixels: np.ndarray
    recipe: Recipe


@torch.no_grad()
def generate(
    bundle: ModelBundle,
    count: int = 1,
    like: Radiograph | None = None,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    guidance: float = DEFAULT_GUIDANCE,
    sampler: str = DEFAULT_SAMPLER,
    callback: Callable[[SamplingStep], bool | None] | None = None,
) -> list[Synthetic]:
    """`count` radiographs: variants that share the embedding of `like`, or new ones from the prior.

    Image k of a seed is the same whatever `count` is. Raises ConfigurationError for impossible settings
    and Cancelled when the callback says so.
    """
    if count < 1 or sampler not in SAMPLERS or not 0 <= guidance <= 20:
        raise ConfigurationError(
            f"Cannot generate {count} images with sampler '{sampler}' and guidance {guidance}: ask for at "
            f"least one image, a sampler out of {', '.join(SAMPLERS)}, and a guidance from 0 to 20."
        )
    generators = [torch.Generator().manual_seed(seed * 1_000_003 + k) for k in range(count)]
    with inference(bundle.device):
        if like is None:
            drawn = [bundle.prior.sample(1, generator) for generator in generators]
            encoded = EncoderOutput(torch.cat([d.cls for d in drawn]), torch.cat([d.patches for d in drawn]))
        else:
            one = bundle.encoder(like.model_view(bundle.size).pixels.to(bundle.device))
            encoded = EncoderOutput(one.cls.expand(count, -1), one.patches.expand(count, -1, -1, -1))
        noise = torch.cat([initial_noise((1, *bundle.latent_shape), g, bundle.device) for g in generators])
        times = time_grid(steps, bundle.time_shift)

        def work(start: int, stop: int) -> torch.Tensor:
            frames = torch.tensor([Frame(size=bundle.size).numbers()] * (stop - start), device=bundle.device)
            part = EncoderOutput(encoded.cls[start:stop], encoded.patches[start:stop])
            velocity = guided(
                bundle.denoiser,
                bundle.denoiser.condition(part, frames),
                bundle.denoiser.unconditional(frames),
                guidance,
                interval=GUIDANCE_INTERVAL,
                concatenate=Condition.cat,
            )
            return bundle.autoencoder.decode(
                SAMPLERS[sampler](velocity, noise[start:stop], times, callback)
            ).cpu()

        pictures = torch.cat(in_batches(count, work))[:, 0].float().numpy()
    parameters = {"seed": seed, "steps": steps, "guidance": guidance, "sampler": sampler}
    inputs = {"like": like.source.sha256} if like is not None else {}
    return [
        Synthetic(picture, Recipe("generate", bundle.id, parameters | {"index": index}, inputs))
        for index, picture in enumerate(pictures)
    ]
