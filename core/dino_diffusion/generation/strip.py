"""One patient from one concept to another: a strip of pictures that differ in nothing but the share.

All pictures start from the same noisy version of the radiograph (image to image, SDEdit, Meng et al. 2022)
and see its own patch tokens, so that it stays that patient; what the two concepts add is blended in the
velocity, (1 - w) of one and w of the other, in one batched pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from dino_diffusion.device import device_name, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.composition import (
    concept_velocity,
    opened_concepts,
    usual_guidance,
)
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.recipe import Recipe, hash_of_pixels, incomplete
from dino_diffusion.generation.sampled import Synthetic
from dino_diffusion.generation.weighted import hash_of_concept
from dino_diffusion.models import EncoderOutput, Frame, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import (
    SAMPLERS,
    SamplingStep,
    initial_noise,
    noised,
    steps_below,
    time_grid,
)
from dino_diffusion.segmentation.lungs import lungs_of
from dino_diffusion.segmentation.measures import cardiothoracic_ratio, opacity
from dino_diffusion.segmentation.observation import observe
from dino_diffusion.view import SquareView

OPERATION = "strip"

GUIDANCE, FINE_GUIDANCE, INTERVAL = 16.0, 2.0, (0.35, 1.0)
"""What is coarse is followed far, details little and only until the picture's shape stands: a strip changes
the whole film, ribs and shoulders too, and these would turn into scars."""


@dataclass(frozen=True)
class StripSettings:
    """How to make a strip. Raises ConfigurationError for what is impossible.

    frames: pictures, from the first concept alone to the second alone. strength: in (0, 1], the noise level
    to start from; 1 keeps nothing but the patch tokens. guidance: how far to go, None: GUIDANCE, or less for
    concepts without opposites (`composition.usual_guidance`). fine_guidance: the most for details.
    guidance_interval: flow times between which both act. steps: of the whole way from noise, less strength
    takes fewer.
    """

    frames: int = 7
    strength: float = 0.9
    guidance: float | None = None
    seed: int = 0
    steps: int = 16
    sampler: str = "dpmpp_2m"
    fine_guidance: float = FINE_GUIDANCE
    guidance_interval: tuple[float, float] = INTERVAL

    def __post_init__(self) -> None:
        if not 2 <= self.frames <= 100 or not 1 <= self.steps <= 1000 or self.seed < 0:
            raise ConfigurationError(
                f"A strip of {self.frames} frames in {self.steps} steps with seed {self.seed} is not "
                "possible: ask for 2 to 100 frames, 1 to 1000 steps and a seed of 0 or more."
            )
        followed = self.guidance is None or 0 < self.guidance <= 20
        if not 0 < self.strength <= 1 or not followed or self.sampler not in SAMPLERS:
            raise ConfigurationError(
                f"Strength {self.strength}, guidance {self.guidance} and sampler '{self.sampler}' are not "
                f"possible: use a strength above 0 up to 1, a guidance above 0 up to 20, and one of "
                f"{', '.join(SAMPLERS)}."
            )

    @property
    def shares(self) -> list[float]:
        """Share of the second concept in each frame."""
        return np.linspace(0, 1, self.frames).tolist()


@dataclass(frozen=True, eq=False)
class Strip:
    """`frames` with their `shares` of the second concept, and what was measured on them.

    `opacity`: mean grey, in the model's [0, 1], inside the lungs of the radiograph itself; None where none
    were found. `cardiothoracic_ratio`: of each frame's own lungs, None for a frame without two.
    """

    frames: list[Synthetic]
    shares: list[float]
    opacity: list[float | None]
    cardiothoracic_ratio: list[float | None]

    @property
    def quantities(self) -> dict[str, list[float | None]]:
        """What was measured, by name."""
        return {"opacity": self.opacity, "cardiothoracic_ratio": self.cardiothoracic_ratio}

    @property
    def trends(self) -> dict[str, float | None]:
        """Spearman's rank correlation of each quantity with the frame, None where it is undefined."""
        return {name: _trend(values) for name, values in self.quantities.items()}


@dataclass(frozen=True, eq=False)
class StripPath:
    """What all frames of a strip share; `frame` makes one."""

    bundle: ModelBundle
    radiograph: Radiograph
    concepts: tuple[Concept, Concept]
    settings: StripSettings
    latents: torch.Tensor
    encoded: EncoderOutput

    @classmethod
    def of(
        cls,
        bundle: ModelBundle,
        radiograph: Radiograph,
        start: Concept,
        end: Concept,
        settings: StripSettings | None = None,
    ) -> StripPath:
        """Encodes the radiograph. Raises ConceptError for a concept of another model."""
        settings = settings or StripSettings()
        for concept in (start, end):
            concept.check(bundle)
        with inference(bundle.device):
            view = radiograph.model_view(bundle.size).pixels.to(bundle.device)
            latents, encoded = bundle.autoencoder.encode(view).float(), bundle.encoder(view)
        return cls(bundle, radiograph, (start, end), settings, latents, encoded)

    @property
    def guidance(self) -> float:
        """What was asked for, or what is usual."""
        asked = self.settings.guidance
        return usual_guidance(self.concepts, GUIDANCE) if asked is None else asked

    @property
    def times(self) -> torch.Tensor:
        """Noise levels from the strength down to 0, as dense as on the whole way."""
        return time_grid(self.steps, self.bundle.time_shift, self.settings.strength)

    @property
    def steps(self) -> int:
        """Sampling steps of one frame."""
        return steps_below(self.settings.strength, self.settings.steps, self.bundle.time_shift)

    def frame(self, number: int, callback: Callable[[SamplingStep], bool | None] | None = None) -> Synthetic:
        """Picture `number`, counted from 0. Raises Cancelled when the callback says so."""
        bundle, settings, times = self.bundle, self.settings, self.times
        share = settings.shares[number]
        concepts = [
            (concept, weight)
            for concept, weight in zip(self.concepts, (1 - share, share), strict=True)
            if weight
        ]
        with inference(bundle.device):
            generator = torch.Generator().manual_seed(settings.seed)
            noise = initial_noise((1, *bundle.latent_shape), generator, bundle.device)
            frame = torch.tensor([Frame(size=bundle.size).numbers()], device=bundle.device)
            velocity = concept_velocity(
                bundle,
                concepts,
                frame,
                self.guidance,
                self.encoded,
                interval=settings.guidance_interval,
                fine=settings.fine_guidance,
                vectors=False,
            )
            start = noised(self.latents, noise, float(times[0]))
            latents = SAMPLERS[settings.sampler](velocity, start, times, callback)
            square = bundle.autoencoder.decode(latents)[0, 0].float().cpu().numpy()
        shape = SquareView(*self.radiograph.shape, bundle.size)
        pixels = np.ascontiguousarray(square[shape.inside])
        recipe = Recipe(
            OPERATION,
            bundle.id,
            asdict(settings)
            | {"guidance": self.guidance, "guidance_interval": list(settings.guidance_interval)}
            | {"concepts": [c.name for c in self.concepts]}
            | {"frame": number, "share": share},
            self.inputs(),
            device=device_name(bundle.device),
            result=hash_of_pixels(pixels),
        )
        return Synthetic(pixels, recipe)

    def inputs(self) -> dict[str, str]:
        """Hashes by the names that a recipe gives the inputs."""
        return {"image": self.radiograph.source.sha256} | {
            name: hash_of_concept(c) for name, c in zip(("from", "to"), self.concepts, strict=True)
        }


def strip(path: StripPath, callback: Callable[[SamplingStep], bool | None] | None = None) -> Strip:
    """All frames, measured. The callback sees the steps of one frame after another.

    Raises Cancelled when the callback says so.
    """
    frames = [path.frame(number, callback) for number in range(path.settings.frames)]
    return measured(path.bundle, path.radiograph, frames, path.settings.shares)


def measured(
    bundle: ModelBundle,
    radiograph: Radiograph,
    frames: list[Synthetic],
    shares: list[float],
    callback: Callable[[int, int], None] | None = None,
) -> Strip:
    """The frames with the quantities that should change along them.

    The callback hears (done, total) after each denoiser pass over one picture, and may raise Cancelled.
    """
    view = radiograph.model_view(bundle.size)
    before = view.pixels[0, 0].numpy()[view.square.inside]
    lungs = _lungs(bundle, before, callback)
    return Strip(
        frames,
        shares,
        [opacity(frame.pixels, lungs) for frame in frames],
        [cardiothoracic_ratio(_lungs(bundle, frame.pixels, callback)) for frame in frames],
    )


def again(recipe: Recipe, bundle: ModelBundle, inputs: Mapping[str, Any]) -> Synthetic:
    """The frame that a recipe of `strip` describes, see `replay`.

    `inputs` by the names that the recipe gives them: `image` a radiograph or its file, `from` and `to`
    concepts or their files. Raises ConfigurationError for others, and for an incomplete recipe.
    """
    given = dict(inputs)
    if isinstance(given.get("image"), (str, Path)):
        given["image"] = Radiograph.read(given["image"])
    known = opened_concepts({name: value for name, value in given.items() if name != "image"})
    hashes = {name: hash_of_concept(concept) for name, concept in known.items()}
    recipe.check_inputs(hashes | ({"image": given["image"].source.sha256} if "image" in given else {}))
    try:
        settings = dict(recipe.parameters)
        number = settings.pop("frame")
        del settings["concepts"], settings["share"]
        settings["guidance_interval"] = tuple(settings["guidance_interval"])
        chosen = StripSettings(**settings)
        return StripPath.of(bundle, given["image"], known["from"], known["to"], chosen).frame(number)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise incomplete(recipe, error) from error


def _lungs(
    bundle: ModelBundle, pixels: np.ndarray, callback: Callable[[int, int], None] | None
) -> np.ndarray:
    picture = Radiograph.from_array(np.ascontiguousarray(pixels))
    return lungs_of(bundle, observe(bundle, picture, callback=callback)).labelmap.labels


def _trend(values: list[float | None]) -> float | None:
    found = [(number, value) for number, value in enumerate(values) if value is not None]
    if len(found) < 3 or len({value for _, value in found}) < 2:
        return None
    return float(spearmanr(*zip(*found, strict=True)).statistic)
