"""Whole pictures, strips and inpainting with a Stable Diffusion checkpoint and its concepts.

Every concept is a text of its own: 64 vectors fill most of a prompt, so several are composed in the velocity
(de Wilde et al. 2023, arXiv 2303.13430), in one batched pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.device import device_name, inference
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.recipe import Recipe, hash_of_pixels
from dino_diffusion.generation.stable_diffusion.backbone import PLACE, StableDiffusion
from dino_diffusion.generation.weighted import Weighted, hash_of_concept, name_of_concept
from dino_diffusion.sampling import (
    SAMPLERS,
    Project,
    SamplingStep,
    VelocityModel,
    composed,
    initial_noise,
    noised,
    steps_below,
    time_grid,
)

Callback = Callable[[SamplingStep], bool | None]


@dataclass(frozen=True)
class PaintSettings:
    """How to paint. Raises ConfigurationError for what is impossible.

    prompt: the text around each concept, which stands at `{}`; negative: what to lead away from. size: side
    of the picture in pixels, None for the one the checkpoint was trained on.
    """

    prompt: str = PLACE
    negative: str = ""
    guidance: float = 7.5
    steps: int = 25
    seed: int = 0
    sampler: str = "dpmpp_2m"
    size: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.guidance <= 50 or not 1 <= self.steps <= 1000 or self.seed < 0:
            raise ConfigurationError(
                f"Guidance {self.guidance} in {self.steps} steps with seed {self.seed} is not possible: use "
                "a guidance of 0 to 50, 1 to 1000 steps and a seed of 0 or more."
            )
        if self.sampler not in SAMPLERS:
            raise ConfigurationError(
                f"There is no sampler '{self.sampler}': use one of {', '.join(SAMPLERS)}."
            )


@dataclass(frozen=True)
class Painted:
    """A synthetic picture, float32 `(3, H, W)` in [0, 1] (three grey or three sequences), and its recipe."""

    pixels: np.ndarray
    recipe: Recipe


def paint(
    backbone: StableDiffusion,
    concepts: Sequence[Weighted],
    settings: PaintSettings | None = None,
    number: int = 0,
    callback: Callback | None = None,
) -> Painted:
    """Picture `number` of the seed that shows the concepts together.

    Raises ConceptError for a concept of another text encoder, ConfigurationError for impossible settings and
    Cancelled when the callback says so.
    """
    settings = settings or PaintSettings()
    side = settings.size or backbone.size
    if side < backbone.factor or side % backbone.factor:
        raise ConfigurationError(f"A side of {side} pixels is no multiple of {backbone.factor}; use one.")
    with inference(backbone.device):
        velocity = _velocity(backbone, concepts, settings)
        noise = _noise(backbone, settings, number, (side, side))
        times = _times(backbone, settings.steps)
        start = noised(torch.zeros_like(noise), noise, float(times[0]))
        latents = SAMPLERS[settings.sampler](velocity, start, times, callback)
        pixels = backbone.decode(latents)[0].float().cpu().numpy()
    return _painted("sd-paint", backbone, concepts, settings, number, pixels)


def interpolate(
    backbone: StableDiffusion,
    start: Concept,
    end: Concept,
    frames: int = 7,
    settings: PaintSettings | None = None,
    callback: Callback | None = None,
) -> list[Painted]:
    """Pictures from one concept to another that start from the same noise."""
    if frames < 2:
        raise ConfigurationError(f"A strip of {frames} frames is not possible: ask for 2 or more.")
    return [
        paint(backbone, [(start, 1 - share), (end, share)], settings, callback=callback)
        for share in np.linspace(0, 1, frames).tolist()
    ]


def inpaint(
    backbone: StableDiffusion,
    picture: np.ndarray,
    mask: np.ndarray,
    concepts: Sequence[Weighted],
    settings: PaintSettings | None = None,
    strength: float = 1.0,
    number: int = 0,
    callback: Callback | None = None,
) -> Painted:
    """Paints the masked part `(H, W)` of a picture `(3, H, W)` in [0, 1] anew; the rest keeps its values.

    At each step the known part is put back at its noise level (blended latent diffusion, Avrahami et al.
    2023, arXiv 2206.02779). `strength` in (0, 1]: how much noise to start from. Raises ConfigurationError for
    a picture or mask of an impossible shape.
    """
    settings = settings or PaintSettings()
    known = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32))
    inside = np.asarray(mask, dtype=bool)
    if known.ndim != 3 or len(known) != 3 or known.shape[1:] != inside.shape or not inside.any():
        raise ConfigurationError(
            f"A picture {tuple(known.shape)} cannot be painted under a mask {inside.shape} of "
            f"{int(inside.sum())} pixels; give (3, H, W), and a mask (H, W) that marks something."
        )
    if not 0 < strength <= 1:
        raise ConfigurationError(f"A strength of {strength} makes no sense: use more than 0, up to 1.")
    height, width = inside.shape
    unit = backbone.factor
    padded = functional.pad(known[None], (0, -width % unit, 0, -height % unit), mode="replicate")
    covered = functional.pad(
        torch.from_numpy(inside)[None, None].float(), (0, -width % unit, 0, -height % unit)
    )
    with inference(backbone.device):
        velocity = _velocity(backbone, concepts, settings)
        clean = backbone.encode(padded.to(backbone.device))
        noise = _noise(backbone, settings, number, (padded.shape[2], padded.shape[3]))
        open_cells = functional.max_pool2d(covered, unit).to(clean) > 0
        times = _times(backbone, settings.steps, strength)
        start = noised(clean, noise, float(times[0]))
        latents = SAMPLERS[settings.sampler](
            velocity, start, times, callback, _put_back(clean, noise, open_cells)
        )
        painted = backbone.decode(latents)[0, :, :height, :width].float().cpu().numpy()
    pixels = np.where(inside, painted, known.numpy())
    return _painted("sd-inpaint-picture", backbone, concepts, settings, number, pixels, strength=strength)


def _velocity(
    backbone: StableDiffusion, concepts: Sequence[Weighted], settings: PaintSettings
) -> VelocityModel:
    if not concepts:
        raise ConfigurationError("There is no concept to paint; name at least one.")
    for concept, _ in concepts:
        backbone.check(concept)
    device = backbone.device
    conditions = [backbone.condition(c.vectors.to(device), settings.prompt) for c, _ in concepts]
    weights = [settings.guidance * weight for _, weight in concepts]
    return composed(backbone.velocity, conditions, weights, backbone.condition(None, settings.negative))


def _times(backbone: StableDiffusion, steps: int, strength: float = 1.0) -> torch.Tensor:
    """Noise levels from the checkpoint's last timestep, or from `strength` of it, down to 0."""
    start = strength * backbone.noisiest
    return time_grid(steps_below(strength, steps), t_start=start)


def _noise(
    backbone: StableDiffusion, settings: PaintSettings, number: int, size: tuple[int, int]
) -> torch.Tensor:
    """The noise of picture `number`."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
    channels, unit = backbone.denoiser.config.in_channels, backbone.factor
    return initial_noise((1, channels, size[0] // unit, size[1] // unit), generator, backbone.device)


def _put_back(clean: torch.Tensor, noise: torch.Tensor, open_cells: torch.Tensor) -> Project:
    def project(x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.where(open_cells, x, noised(clean, noise, t))

    return project


def _painted(
    operation: str,
    backbone: StableDiffusion,
    concepts: Sequence[Weighted],
    settings: PaintSettings,
    number: int,
    pixels: np.ndarray,
    **more: float,
) -> Painted:
    parameters = asdict(settings) | more | {"number": number}
    parameters |= {"concepts": [[concept.name, weight] for concept, weight in concepts]}
    inputs = {name_of_concept(concept.name): hash_of_concept(concept) for concept, _ in concepts}
    recipe = Recipe(
        operation,
        backbone.id,
        parameters,
        inputs,
        device=device_name(backbone.device),
        result=hash_of_pixels(pixels),
    )
    return Painted(pixels, recipe)
