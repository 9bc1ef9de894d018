"""Does the denoiser heed the frame: the part of the radiograph it is to draw, and how fine its source is?

Asked of synthetic pictures alone, which share tokens and noise and differ in the frame, so it needs no data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.crop import Box, cut, frame_of
from dino_diffusion.device import inference
from dino_diffusion.generation.sampled import (
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    GUIDANCE_INTERVAL,
)
from dino_diffusion.models import Condition, EncoderOutput, Frame, ModelBundle
from dino_diffusion.sampling import SAMPLERS, guided, initial_noise, time_grid

SOURCE_SIDE = 512
"""Pixels of the imagined source; its parts are half as wide, which training has seen."""
HALF = SOURCE_SIDE // 2
PARTS = {
    "upper left": Box(0, 0, HALF),
    "centre": Box(HALF // 2, HALF // 2, HALF),
    "lower right": Box(HALF, HALF, HALF),
}
SOURCE_SIDES = (224, 512, 2048)
FINE = 0.25
"""Cycles a pixel above which detail counts as fine: half the highest frequency there is."""


@dataclass(frozen=True)
class Framed:
    """Pictures `(1, 1, S, S)` of one draw of the prior and one noise.

    whole: as `generate` makes it. cut_out: parts of `whole`, enlarged. whole_tokens, no_tokens, own_tokens:
    the same parts drawn by their frame with the tokens of the whole, with none, and with those of the part
    that was cut out. sides: the whole, from a source of so many pixels.
    """

    whole: torch.Tensor
    cut_out: dict[str, torch.Tensor]
    whole_tokens: dict[str, torch.Tensor]
    no_tokens: dict[str, torch.Tensor]
    own_tokens: dict[str, torch.Tensor]
    sides: dict[int, torch.Tensor]


def draw_framed(bundle: ModelBundle, seed: int = 0, steps: int = DEFAULT_STEPS) -> Framed:
    """One draw in every frame; the `whole` from a source of `SOURCE_SIDE` pixels."""
    generator = torch.Generator().manual_seed(seed)
    with inference(bundle.device), torch.no_grad():
        tokens = bundle.prior.sample(1, generator)
        noise = initial_noise((1, *bundle.latent_shape), generator, bundle.device)

        def picture(frame: Frame, encoded: EncoderOutput | None) -> torch.Tensor:
            return _sampled(bundle, encoded, frame, noise, steps)

        sides = {
            side: picture(Frame(source_side=side, size=bundle.size), tokens)
            for side in {*SOURCE_SIDES, SOURCE_SIDE}
        }
        whole = sides[SOURCE_SIDE]
        frames = {name: frame_of(box, SOURCE_SIDE, bundle.size) for name, box in PARTS.items()}
        cut_out = {name: _part(whole, box) for name, box in PARTS.items()}
        return Framed(
            whole,
            cut_out,
            {name: picture(frame, tokens) for name, frame in frames.items()},
            {name: picture(frame, None) for name, frame in frames.items()},
            {name: picture(frame, bundle.encoder(cut_out[name])) for name, frame in frames.items()},
            {side: sides[side] for side in SOURCE_SIDES},
        )


def evaluate_conditioning(bundle: ModelBundle, draws: list[Framed]) -> dict[str, Any]:
    """How far the frame is heeded, ready for JSON.

    Returns:
        `n`; for each of `whole_tokens`, `no_tokens`, `own_tokens`: `own`, `others`: mean cosine (CLS tokens)
        of a drawn part and the same part cut out of the whole, and another part of the same whole; `found`:
        how often the same part is the nearest one (by chance 1 in 3). For `no_tokens`, whose pictures are of
        no particular patient, the parts are means over all wholes.
        `fine`: by source side, the share of a picture's energy that is fine detail, over that of the same
        draw at the smallest side (geometric mean over draws).
    """

    def encode(pictures: list[torch.Tensor]) -> torch.Tensor:
        with inference(bundle.device), torch.no_grad():
            return torch.cat([bundle.encoder(picture).cls.float().cpu() for picture in pictures])

    names = list(PARTS)
    parts = torch.stack([encode([draw.cut_out[name] for name in names]) for draw in draws])
    found: dict[str, Any] = {"n": len(draws)}
    for kind in ("whole_tokens", "no_tokens", "own_tokens"):
        drawn = torch.stack([encode([getattr(draw, kind)[name] for name in names]) for draw in draws])
        references = parts.mean(0, keepdim=True).expand_as(parts) if kind == "no_tokens" else parts
        # (draw, drawn part, part cut out)
        cosines = functional.normalize(drawn, dim=2) @ functional.normalize(references, dim=2).mT
        same = torch.eye(len(names), dtype=torch.bool).expand_as(cosines)
        found[kind] = {
            "own": float(cosines[same].mean()),
            "others": float(cosines[~same].mean()),
            "found": float((cosines.argmax(2) == torch.arange(len(names))).double().mean()),
        }
    logs = np.log([[fine_detail(draw.sides[side]) for side in SOURCE_SIDES] for draw in draws])
    ratios = np.exp((logs - logs[:, :1]).mean(0))
    return found | {"fine": dict(zip(map(str, SOURCE_SIDES), ratios.tolist(), strict=True))}


def fine_detail(picture: torch.Tensor) -> float:
    """Share of the energy of `(1, 1, S, S)`, its mean left out, at frequencies above `FINE`."""
    values = picture[0, 0].double().cpu().numpy()
    # A window, so that the borders' jump from one side to the other is no detail.
    window = np.hanning(len(values))
    power = np.abs(np.fft.fft2((values - values.mean()) * window[:, None] * window)) ** 2
    frequencies = np.abs(np.fft.fftfreq(len(values)))
    fine = np.maximum(frequencies[:, None], frequencies) > FINE
    return float(power[fine].sum() / power.sum())


def _part(whole: torch.Tensor, box: Box) -> torch.Tensor:
    """The box of the imagined source, cut out of its picture and enlarged."""
    size = whole.shape[-1]
    scale = size / SOURCE_SIDE
    return cut(whole, Box(*(round(value * scale) for value in (box.left, box.top, box.side))), size)


def _sampled(
    bundle: ModelBundle, encoded: EncoderOutput | None, frame: Frame, noise: torch.Tensor, steps: int
) -> torch.Tensor:
    """One picture by the default settings; without tokens there is nothing to guide toward."""
    frames = torch.tensor([frame.numbers()], device=bundle.device)
    nothing = bundle.denoiser.unconditional(frames)
    velocity = guided(
        bundle.denoiser,
        nothing if encoded is None else bundle.denoiser.condition(encoded, frames),
        nothing,
        1.0 if encoded is None else DEFAULT_GUIDANCE,
        interval=GUIDANCE_INTERVAL,
        concatenate=Condition.cat,
    )
    latents = SAMPLERS[DEFAULT_SAMPLER](velocity, noise, time_grid(steps, bundle.time_shift))
    return bundle.autoencoder.decode(latents).float().clamp(0, 1)
