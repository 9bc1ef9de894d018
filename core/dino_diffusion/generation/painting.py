"""How a part of a radiograph is painted anew, and how it is put back.

The part around the mask is cut out and painted at the model's size: at each step the known part is put back
at its noise level (blended latent diffusion, Avrahami et al. 2023, arXiv 2206.02779), and a soft mask lets
each place change from its own noise level on (differential diffusion, Levin and Fried 2023, arXiv
2306.00950). What the patch tokens say of the place under the mask is missing, and concepts take the place of
the CLS token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from dino_diffusion.crop import Window, box_around
from dino_diffusion.device import device_name, in_batches, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.blend import TEXTURES, added, check_untouched, grain, replaced
from dino_diffusion.generation.composition import (
    concept_velocity,
    usual_guidance,
)
from dino_diffusion.generation.conditioning import concept_condition
from dino_diffusion.generation.masks import EditMask, feathered, on_latents, pixel_size_mm, surroundings
from dino_diffusion.generation.nearest import check_nearest
from dino_diffusion.generation.recipe import Recipe, hash_of_pixels
from dino_diffusion.generation.sampled import BATCH_ON_GPU, GUIDANCE_INTERVAL
from dino_diffusion.generation.weighted import Weighted, hash_of_concept, name_of_concept
from dino_diffusion.models import Condition, EncoderOutput, ModelBundle
from dino_diffusion.models.autoencoder import FACTOR
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import (
    SAMPLERS,
    Project,
    SamplingStep,
    VelocityModel,
    guided,
    initial_noise,
    noised,
    steps_below,
    time_grid,
)

OPERATION = "inpaint"
CHECK = "pixels_outside_identical"
"""In `Recipe.checks`: how many pixels outside the mask were compared and found identical: all there are."""

AROUND = 2.0
"""Guidance toward the surroundings where no concept is painted."""

SMALL_SHARE = 1 / 8
"""A place that covers less of the picture is a small one: vectors say next to nothing about it."""

MOST_ENLARGED = 2
"""So many times a window's own pixels at most, in training hardly at all (`training.views.MAX_ENLARGEMENT`).
In a wider window around a lesion concepts fade."""

OWN_TEXTURE = FACTOR / 2
"""Standard deviation, in model pixels, of the filter that takes the finest detail from an added change: what
is smaller than a latent's cell is texture, and the source has texture of its own."""


@dataclass(frozen=True)
class InpaintSettings:
    """How to paint. Raises ConfigurationError for what is impossible.

    strength: in (0, 1], the noise level to start from; 1 paints anew, less keeps more of what was there.
    feather_mm: depth inside the mask over which the change sets in. texture: see `blend.TEXTURES`.
    keep_level: the change's median is taken out, so that the place stays as bright as it was on the whole and
    only what is uneven changes; for large masks, under which the model cannot see the exposure. steps: of the
    whole way from noise, less strength takes fewer. guidance: from what the surroundings alone suggest toward
    the concepts, it multiplies their weights; without a concept, from nothing toward the surroundings. None:
    `composition.usual_guidance`, and AROUND without a concept. guidance_interval: flow times between which it
    acts, None: all for concepts, GUIDANCE_INTERVAL without.
    """

    strength: float = 1.0
    feather_mm: float = 10.0
    texture: str = "add"
    keep_level: bool = False
    seed: int = 0
    steps: int = 16
    guidance: float | None = None
    sampler: str = "dpmpp_2m"
    guidance_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ConfigurationError(
                f"A strength of {self.strength} makes no sense: use more than 0, up to 1."
            )
        if not 0 <= self.feather_mm <= 1000:
            raise ConfigurationError(f"A feather of {self.feather_mm} mm makes no sense: use 0 mm or more.")
        if self.guidance is not None and not 0 <= self.guidance <= 20:
            raise ConfigurationError(f"A guidance of {self.guidance} makes no sense: use 0 to 20.")
        for what, chosen, known in (
            ("texture", self.texture, TEXTURES),
            ("sampler", self.sampler, tuple(SAMPLERS)),
        ):
            if chosen not in known:
                raise ConfigurationError(f"There is no {what} '{chosen}': use {' or '.join(known)}.")
        if not 1 <= self.steps <= 1000 or self.seed < 0:
            raise ConfigurationError(
                f"{self.steps} steps with seed {self.seed} are not possible: ask for 1 to 1000 steps and a "
                "seed of 0 or more."
            )


@dataclass(frozen=True, eq=False)
class Inpainted:
    """One candidate. `stored` (H, W): the file's own values and dtype, turned like `Radiograph.stored`.

    `mask` (H, W) bool: what was allowed to change; outside it every stored value was found identical.
    """

    stored: np.ndarray
    mask: np.ndarray
    recipe: Recipe
    radiograph: Radiograph

    @property
    def pixels(self) -> np.ndarray:
        """As it is shown: float32 `(H, W)` in [0, 1]."""
        return self.radiograph.grey.shown(self.stored)

    @property
    def untouched(self) -> int:
        """How many pixels outside the mask were compared."""
        return int(self.recipe.checks[CHECK])


@dataclass(frozen=True, eq=False)
class Inpainting:
    """What all candidates of one edit share; `paint` makes them.

    `latents` (1, C, h, w) of the window and their `restored` pixels (1, 1, S, S): the change is measured from
    there, so that what the autoencoder loses is not taken for a change. `levels` (1, 1, h, w): noise level
    from which on a place may change. `weight` (H, W): how much of the change arrives at a pixel.
    """

    bundle: ModelBundle
    radiograph: Radiograph
    mask: EditMask
    concepts: tuple[Weighted, ...]
    settings: InpaintSettings
    window: Window
    latents: torch.Tensor
    restored: torch.Tensor
    levels: torch.Tensor
    encoded: EncoderOutput
    present: torch.Tensor
    weight: np.ndarray

    @classmethod
    def of(
        cls,
        bundle: ModelBundle,
        radiograph: Radiograph,
        mask: EditMask,
        concepts: Sequence[Weighted] = (),
        settings: InpaintSettings | None = None,
    ) -> Inpainting:
        """Encodes the window around the mask. Raises ConceptError for a concept of another model."""
        settings = settings or InpaintSettings()
        for concept, _ in concepts:
            concept.check(bundle)
        window = Window.of(
            radiograph.pixels, box_around(mask.inside, bundle.size // MOST_ENLARGED), bundle.size
        )
        covered = window.map_to_model(mask.levels / 255).to(bundle.device)
        with inference(bundle.device):
            view = window.grey_to_model(radiograph.pixels).to(bundle.device)
            latents = bundle.autoencoder.encode(view).float()
            restored = bundle.autoencoder.decode(latents).float()
            grid = bundle.denoiser.config.token_grid
            encoded, present = bundle.encoder(view), torch.zeros(1, 0, dtype=torch.bool, device=bundle.device)
            if grid:
                encoded, present = surroundings(encoded, covered, grid)
        return cls(
            bundle,
            radiograph,
            mask,
            tuple(concepts),
            settings,
            window,
            latents,
            restored,
            settings.strength * on_latents(covered),
            encoded,
            torch.cat([present.new_zeros(1, 1), present], dim=1),
            feathered(mask.inside, settings.feather_mm, pixel_size_mm(radiograph)),
        )

    @property
    def guidance(self) -> float:
        """What was asked for, or what is usual."""
        if self.settings.guidance is not None:
            return self.settings.guidance
        if not self.concepts:
            return AROUND
        return usual_guidance(concept for concept, _ in self.concepts)

    @property
    def small(self) -> bool:
        """Does the place cover less than SMALL_SHARE of the padded picture?"""
        return float(self.mask.inside.sum()) < SMALL_SHARE * self.window.square.side**2

    @property
    def guidance_interval(self) -> tuple[float, float]:
        """What was asked for, or what is usual."""
        return self.settings.guidance_interval or ((0.0, 1.0) if self.concepts else GUIDANCE_INTERVAL)

    @property
    def steps(self) -> int:
        """Sampling steps of one candidate."""
        return len(self.times) - 1

    @property
    def times(self) -> torch.Tensor:
        """Noise levels from the strength down to 0, as dense as on the whole way."""
        settings, shift = self.settings, self.bundle.time_shift
        steps = steps_below(settings.strength, settings.steps, shift)
        return time_grid(steps, shift, settings.strength)

    def candidates(
        self, count: int, callback: Callable[[SamplingStep], bool | None] | None = None, first: int = 0
    ) -> list[Inpainted]:
        """`count` of the seed from number `first` on; on a GPU several at a time. Raises as `paint` does."""
        if count < 1:
            raise ConfigurationError(f"{count} candidates are not possible: ask for 1 or more.")
        batches = in_batches(
            count,
            lambda start, stop: self.paint(first + start, first + stop, callback),
            most=1 if self.bundle.device.type == "cpu" else BATCH_ON_GPU,
        )
        return [painted for batch in batches for painted in batch]

    def paint(
        self, start: int, stop: int, callback: Callable[[SamplingStep], bool | None] | None = None
    ) -> list[Inpainted]:
        """Candidates `start` to `stop - 1` of the seed, in one batch; candidate k is the same in any.

        On a GPU to the rounding of another batch size. Raises Cancelled when the callback says so, and
        ChangedOutside should a pixel outside the mask differ, which would be a fault of this program.
        """
        indices = range(start, stop)
        with inference(self.bundle.device):
            noise = torch.cat([self._noise(index) for index in indices])
            velocity = self._velocity(len(indices))
            times = self.times
            noisy = noised(self.latents, noise, float(times[0]))
            latents = SAMPLERS[self.settings.sampler](velocity, noisy, times, callback, self._project(noise))
            painted = self.bundle.autoencoder.decode(latents).float()
        return [self._result(index, indices, painted[k][None]) for k, index in enumerate(indices)]

    def _noise(self, index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + index)
        return initial_noise((1, *self.bundle.latent_shape), generator, self.bundle.device)

    def _project(self, noise: torch.Tensor) -> Project:
        """Puts the known part back, at its noise level, wherever the mask has not yet unlocked."""

        def project(x: torch.Tensor, t: float) -> torch.Tensor:
            return torch.where(self.levels > t, x, noised(self.latents, noise, t))

        return project

    def _velocity(self, count: int) -> VelocityModel:
        """Concepts are weighed against the surroundings alone; without any, these against nothing."""
        bundle, guidance, interval = self.bundle, self.guidance, self.guidance_interval
        frames = torch.tensor([self.window.frame.numbers()] * count, device=bundle.device)
        if self.concepts:
            return concept_velocity(
                bundle,
                self.concepts,
                frames,
                guidance,
                self.encoded,
                self.present,
                interval,
                vectors=not self.small,
            )
        return guided(
            bundle.denoiser,
            concept_condition(bundle, None, frames, self.encoded, self.present),
            bundle.denoiser.unconditional(frames),
            guidance,
            interval=interval,
            concatenate=Condition.cat,
        )

    def preview(self, estimate: torch.Tensor) -> np.ndarray:
        """The radiograph `(H, W)` in [0, 1] as a step's estimate `(1, C, h, w)` would change it."""
        with inference(self.bundle.device):
            painted = self.bundle.autoencoder.decode(estimate[:1]).float()
        return self._pasted(painted, 0)

    def _pasted(self, painted: torch.Tensor, index: int) -> np.ndarray:
        """The whole radiograph `(H, W)` with the painted window (1, 1, S, S) in its place."""
        pixels = self.radiograph.pixels.copy()
        region = self.window.region
        if self.settings.keep_level:
            painted = painted - self._shift(painted)
        blend = self._added if self.settings.texture == "add" else self._replaced
        pixels[region] = blend(pixels[region], self.weight[region], painted, index)
        return pixels

    def _result(self, index: int, batch: range, painted: torch.Tensor) -> Inpainted:
        stored = self.radiograph.to_stored(self._pasted(painted, index), self.weight > 0)
        checks: dict[str, Any] = {CHECK: check_untouched(self.radiograph, stored, self.mask.inside)}
        checks |= check_nearest(self.bundle, self.radiograph.grey.shown(stored))
        recipe = Recipe(
            OPERATION,
            self.bundle.id,
            asdict(self.settings)
            | {"concepts": [[concept.name, weight] for concept, weight in self.concepts]}
            | {"guidance": self.guidance, "guidance_interval": list(self.guidance_interval)}
            | {"index": index, "batch": [batch.start, batch.stop]},
            self.inputs(),
            device=device_name(self.bundle.device),
            result=hash_of_pixels(stored),
            checks=checks,
        )
        return Inpainted(stored, self.mask.inside, recipe, self.radiograph)

    def _shift(self, painted: torch.Tensor) -> torch.Tensor:
        """Median change inside the mask, in the model's grey."""
        inside = self.window.map_to_model(self.mask.inside).to(painted.device) > 0.5
        change = (painted - self.restored)[inside]
        return change.median() if len(change) else change.sum()

    def _added(self, source: np.ndarray, weight: np.ndarray, painted: torch.Tensor, index: int) -> np.ndarray:
        """The source plus what changed, in the source's own grey, where the model's may have been clipped."""
        scale = self.window.scale
        change = scale.invert((painted - self.restored).cpu().numpy()) - scale.invert(np.zeros(1))
        smooth = gaussian_filter(change, OWN_TEXTURE, axes=(2, 3))
        return added(source, self.window.to_source(torch.from_numpy(smooth))[0, 0], weight)

    def _replaced(
        self, source: np.ndarray, weight: np.ndarray, painted: torch.Tensor, index: int
    ) -> np.ndarray:
        """The painted picture with grain as around the mask."""
        pair = self.window.to_source(torch.cat([painted, self.restored]))
        new, restored = (self.window.scale.invert(picture) for picture in pair[:, 0])
        rng = np.random.default_rng((self.settings.seed, index))
        new += grain(source - restored, self.mask.inside[self.window.region], rng)
        return replaced(source, new, weight)

    def inputs(self) -> dict[str, str]:
        """Hashes by the names that a recipe gives the inputs."""
        hashes = {"image": self.radiograph.source.sha256, "mask": self.mask.sha256}
        return hashes | {name_of_concept(c.name): hash_of_concept(c) for c, _ in self.concepts}
