"""New radiographs: around real ones in the embedding manifold, of one class, or from the bundle's prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_diffusion.device import device_name, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.files.checks import MINIMUM_SIDE
from dino_diffusion.files.image_list import list_images
from dino_diffusion.generation.embedding import ImageClass, blend, embed
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.sampled import (
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    GUIDANCE_INTERVAL,
    Callback,
    Synthetic,
    check_request,
    finished,
    sample_again,
    sample_pictures,
)
from dino_diffusion.models import Condition, EncoderOutput, Frame, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import VelocityModel, guided, steps_below, time_grid
from dino_diffusion.view import SquareView

OPERATION = "generate"
Draw = Callable[[torch.Generator], EncoderOutput]
"""The tokens of one picture, from the picture's own generator."""


@dataclass(frozen=True, eq=False)
class Variation:
    """What new radiographs are to resemble; nothing at all: draws from the bundle's prior.

    like: shares its embedding. others, mix: further radiographs to blend in, and the share of each (default:
    all alike); `like` has what is left. strength: in (0, 1], the noise level at which `like` itself is the
    start; 1 is pure noise. jitter: in [0, 1], how far each picture's embedding strays, 1 as far as that of
    any other radiograph. image_class: embeddings are drawn from what its images have in common, and `like`
    gives the start alone. Raises ConfigurationError for what is impossible or has no effect.
    """

    like: Radiograph | None = None
    others: tuple[Radiograph, ...] = ()
    mix: tuple[float, ...] = ()
    strength: float = 1.0
    jitter: float = 0.0
    image_class: ImageClass | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1 or not 0 <= self.jitter <= 1:
            raise ConfigurationError(
                f"Strength {self.strength} and jitter {self.jitter} are impossible: use a strength above 0, "
                "and both up to 1."
            )
        fits = len(self.mix) == len(self.others) and all(0 <= share <= 1 for share in self.mix)
        if self.mix and not (fits and sum(self.mix) <= 1 + 1e-6):
            raise ConfigurationError(
                f"{len(self.mix)} shares ({', '.join(f'{share:g}' for share in self.mix)}) do not fit "
                f"{len(self.others)} further radiographs: give one each, from 0 to 1 and together at most 1."
            )
        if self.like is None and (self.others or self.strength < 1):
            raise ConfigurationError(
                "A mix or a strength below 1 needs a radiograph to start from; name one."
            )
        if self.image_class is not None and (self.others or (self.like is not None and self.strength == 1)):
            raise ConfigurationError(
                "A class gives the embeddings, so a radiograph beside it can only be the start: give it "
                "alone, with a strength below 1."
            )
        if self.jitter and self.like is None and self.image_class is None:
            raise ConfigurationError("A jitter needs something to vary; name a radiograph or a class.")

    @property
    def radiographs(self) -> tuple[Radiograph, ...]:
        """`like` and the others."""
        return () if self.like is None else (self.like, *self.others)

    def draw(self, bundle: ModelBundle) -> Draw:
        """Where each picture gets its tokens from."""
        source = self._source(bundle)
        if not self.jitter:
            return source
        return lambda generator: bundle.prior.vary(source(generator), self.jitter, generator)

    def _source(self, bundle: ModelBundle) -> Draw:
        if self.image_class is not None or self.like is None:
            prior = bundle.prior if self.image_class is None else self.image_class.prior
            return lambda generator: prior.sample(1, generator)
        shares = self.mix or (1 / (1 + len(self.others)),) * len(self.others)
        tokens = [embed(bundle, radiograph) for radiograph in self.radiographs]
        blended = blend(tokens, (max(0.0, 1 - sum(shares)), *shares))
        return lambda generator: blended

    def inputs(self) -> dict[str, str]:
        """Hashes by the names that a recipe gives the files."""
        found = {} if self.like is None else {"like": self.like.source.sha256}
        found |= {name_of_other(n): r.source.sha256 for n, r in enumerate(self.others)}
        return found | ({"class": self.image_class.sha256} if self.image_class is not None else {})


def steps_of(bundle: ModelBundle, variation: Variation | None, steps: int) -> int:
    """How many sampling steps a picture takes where the whole way from noise takes `steps`."""
    return steps_below(variation.strength if variation else 1.0, steps, bundle.time_shift)


def name_of_other(number: int) -> str:
    """What a recipe calls the further radiographs: and, and-2, and-3 ..."""
    return f"and-{number + 1}" if number else "and"


@torch.no_grad()
def generate(
    bundle: ModelBundle,
    count: int = 1,
    like: Radiograph | Variation | None = None,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    guidance: float = DEFAULT_GUIDANCE,
    sampler: str = DEFAULT_SAMPLER,
    callback: Callback | None = None,
    first: int = 0,
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL,
) -> list[Synthetic]:
    """`count` radiographs: variants that share the embedding of `like`, or new ones from the prior.

    They are images `first`, `first + 1`, ... of the seed; image k is the same whatever `first` and `count`
    are: on a CPU to the bit, on a GPU to the rounding of another batch size. `steps` are those of the whole
    way from noise; a strength below 1 takes its part of them. `guidance_interval`: the flow times, both
    included, between which `guidance` acts. The callback sees the steps of one batch after the other.
    Raises ConfigurationError for impossible settings and Cancelled when the callback says so.
    """
    check_request(count, first, steps, sampler, guidance)
    variation = like if isinstance(like, Variation) else Variation(like)
    settings = {
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "guidance_interval": list(guidance_interval),
        "sampler": sampler,
        "mix": list(variation.mix),
        "strength": variation.strength,
        "jitter": variation.jitter,
    }
    times = time_grid(steps_of(bundle, variation, steps), bundle.time_shift, variation.strength)
    recipe = Recipe(OPERATION, bundle.id, settings, variation.inputs(), device=device_name(bundle.device))

    def velocity_of(generators: list[torch.Generator]) -> VelocityModel:
        drawn = [draw(generator) for generator in generators]
        encoded = EncoderOutput(torch.cat([d.cls for d in drawn]), torch.cat([d.patches for d in drawn]))
        return _guided_velocity(bundle, encoded, guidance, guidance_interval)

    with inference(bundle.device):
        draw = variation.draw(bundle)
        clean = _latent(bundle, variation.like) if variation.strength < 1 else None
    return sample_pictures(
        bundle,
        recipe,
        count,
        first,
        times,
        velocity_of,
        lambda square, recipe: _result(bundle, variation.like, square, recipe),
        callback,
        clean,
    )


def again(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Any]) -> Synthetic:
    """The picture that a recipe of `generate` describes, see `replay`.

    `inputs` by the names that the recipe gives them: radiographs or their files; for `class` an ImageClass,
    or the folder or list of its files. Raises ConfigurationError for others, and for an incomplete recipe.
    """
    given = {name: _opened(bundle, name, value) for name, value in inputs.items()}
    hashes = {name: v.sha256 if isinstance(v, ImageClass) else v.source.sha256 for name, v in given.items()}
    recipe.check_inputs(hashes)
    others = tuple(given[name] for n in range(len(given)) if (name := name_of_other(n)) in given)

    def make(settings: dict[str, Any], count: int, first: int) -> list[Synthetic]:
        mix, strength, jitter = (settings.pop(name) for name in ("mix", "strength", "jitter"))
        variation = Variation(given.get("like"), others, tuple(mix), strength, jitter, given.get("class"))
        return generate(bundle, count, variation, first=first, **settings)

    return sample_again(recipe, make)


def _opened(bundle: ModelBundle, name: str, value: Any) -> Any:
    if not isinstance(value, (str, Path)):
        return value
    if name == "class":
        return ImageClass.of(bundle, map(Radiograph.read, list_images([Path(value)]).files))
    return Radiograph.read(value)


def _result(bundle: ModelBundle, like: Radiograph | None, square: np.ndarray, recipe: Recipe) -> Synthetic:
    """The square picture without the padding that `like` had."""
    pixels, spacing = square, None
    if like is not None:
        shape = SquareView(*like.shape, bundle.size)
        cropped = square[shape.inside]
        # A strip so narrow that no file can hold it stays in its square.
        pixels = np.ascontiguousarray(cropped) if min(cropped.shape) >= MINIMUM_SIDE else square
        spacing = like.spacing_mm and (
            like.spacing_mm[0] * shape.side / bundle.size,
            like.spacing_mm[1] * shape.side / bundle.size,
        )
    return finished(bundle, pixels, recipe, spacing)


def _latent(bundle: ModelBundle, like: Radiograph | None) -> torch.Tensor | None:
    """Latent `(1, C, h, w)` of a whole radiograph."""
    if like is None:
        return None
    return bundle.autoencoder.encode(like.model_view(bundle.size).pixels.to(bundle.device)).float()


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
