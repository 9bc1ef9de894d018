"""New radiographs: from the tokens of a real one, or from the bundle's prior over tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dino_diffusion.device import device_name, in_batches, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import Condition, EncoderOutput, Frame, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SAMPLERS, SamplingStep, VelocityModel, guided, initial_noise, time_grid

DEFAULT_STEPS, DEFAULT_GUIDANCE, DEFAULT_SAMPLER = 16, 2.0, "dpmpp_2m"
GUIDANCE_INTERVAL = (0.1, 0.9)
"""Guidance at the ends of the path costs diversity (noise) and detail (clean) and gains nothing."""

OPERATION = "generate"
BATCH_ON_GPU = 8
"""A CPU gains 3 % from a larger batch than one, and loses that a picture is the same to the bit in any."""


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
    first: int = 0,
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL,
) -> list[Synthetic]:
    """`count` radiographs: variants that share the embedding of `like`, or new ones from the prior.

    They are images `first`, `first + 1`, ... of the seed; image k is the same whatever `first` and `count`
    are: on a CPU to the bit, on a GPU to the rounding of another batch size. `guidance_interval`: the flow
    times, both included, between which `guidance` acts. The callback sees the steps of one batch after the
    other. Raises ConfigurationError for impossible settings and Cancelled when the callback says so.
    """
    if count < 1 or first < 0 or sampler not in SAMPLERS or not 0 <= guidance <= 20:
        raise ConfigurationError(
            f"Cannot generate {count} images from number {first} on with sampler '{sampler}' and guidance "
            f"{guidance}: ask for at least one image, counted from 0, a sampler out of "
            f"{', '.join(SAMPLERS)}, and a guidance from 0 to 20."
        )
    settings = {
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "guidance_interval": list(guidance_interval),
        "sampler": sampler,
    }
    times = time_grid(steps, bundle.time_shift)
    inputs = {"like": like.source.sha256} if like is not None else {}
    device = device_name(bundle.device)

    def work(start: int, stop: int) -> list[Synthetic]:
        indices = range(first + start, first + stop)
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + index) for index in indices]
        encoded = _repeated(embedding, len(indices)) if embedding else _drawn(bundle, generators)
        noise = torch.cat([initial_noise((1, *bundle.latent_shape), g, bundle.device) for g in generators])
        velocity = _guided_velocity(bundle, encoded, guidance, guidance_interval)
        latents = SAMPLERS[sampler](velocity, noise, times, callback)
        pictures = bundle.autoencoder.decode(latents)[:, 0].float().cpu().numpy()
        # A batch of another size rounds otherwise: to replay a picture means to compute its batch again.
        batch = [indices.start, indices.stop]
        return [
            Synthetic(
                picture,
                Recipe(
                    OPERATION, bundle.id, settings | {"index": index, "batch": batch}, inputs, device=device
                ),
            )
            for index, picture in zip(indices, pictures, strict=True)
        ]

    with inference(bundle.device):
        embedding = like and bundle.encoder(like.model_view(bundle.size).pixels.to(bundle.device))
        batches = in_batches(count, work, most=1 if bundle.device.type == "cpu" else BATCH_ON_GPU)
    return [made for batch in batches for made in batch]


def replay(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Radiograph] | None = None) -> Synthetic:
    """The picture that `recipe` describes: on the device that made it, the same pixels.

    `inputs`: the radiographs by the names that the recipe gives them (`like`). Raises ConfigurationError
    for another bundle or other inputs than those of the recipe, and for a recipe that is incomplete.
    """
    given = {name: radiograph.source.sha256 for name, radiograph in (inputs or {}).items()}
    if recipe.operation != OPERATION:
        raise ConfigurationError(f"The recipe is of '{recipe.operation}'; replay one of '{OPERATION}' here.")
    if recipe.bundle != bundle.id:
        raise ConfigurationError(
            f"The recipe is of bundle {recipe.bundle}, this one is {bundle.id}; load the recipe's bundle."
        )
    if recipe.inputs != given:
        hashes = [f"{name} of SHA-256 {value[:12]}..." for name, value in recipe.inputs.items()]
        wanted = ", ".join(hashes) or "none"
        raise ConfigurationError(
            f"The inputs are not those of the recipe; pass the very files it was made from: {wanted}."
        )
    try:
        settings = dict(recipe.parameters)
        index, (start, stop) = settings.pop("index"), settings.pop("batch")
        settings["guidance_interval"] = tuple(settings["guidance_interval"])
        if not start <= index < stop <= start + BATCH_ON_GPU:
            raise ValueError(f"no image {index} in a batch from {start} to {stop}")
        made = generate(bundle, stop - start, (inputs or {}).get("like"), first=start, **settings)
        return made[index - start]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigurationError(
            f"The recipe is incomplete or of another version, {recipe.version} ({error}); "
            "take it from the picture's metadata or its .recipe.json as they were written."
        ) from error


def _guided_velocity(
    bundle: ModelBundle, encoded: EncoderOutput, guidance: float, interval: tuple[float, float]
) -> VelocityModel:
    """The denoiser for whole pictures of full detail, one for each of the embeddings."""
    frames = torch.tensor([Frame(size=bundle.size).numbers()] * len(encoded.cls), device=bundle.device)
    return guided(
        bundle.denoiser,
        bundle.denoiser.condition(encoded, frames),
        bundle.denoiser.unconditional(frames),
        guidance,
        interval=interval,
        concatenate=Condition.cat,
    )


def _repeated(one: EncoderOutput, count: int) -> EncoderOutput:
    """The tokens of one picture for a batch of `count`."""
    return EncoderOutput(one.cls.expand(count, -1), one.patches.expand(count, -1, -1, -1))


def _drawn(bundle: ModelBundle, generators: list[torch.Generator]) -> EncoderOutput:
    """Tokens from the prior, one picture a generator."""
    drawn = [bundle.prior.sample(1, generator) for generator in generators]
    return EncoderOutput(torch.cat([d.cls for d in drawn]), torch.cat([d.patches for d in drawn]))
