"""Fits the checks of side, polarity and view, without a label: pictures against altered copies of themselves.

Only here is a picture ever mirrored, turned upside down, cut or scrambled, and only to learn to notice it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.alterations import Alteration, draw_alteration
from dino_diffusion.models.encoder import EncoderOutput
from dino_diffusion.models.view_checks import ViewChecks, side_difference, view_tokens

FALSE_ALARMS = 0.02
"""Share of proper pictures, kept back from the fit, above each border."""

PROPER = ("plain", "odd", "aside", "mirrored")
"""What shows a chest as it should be; on which side the heart lies is for another check to tell."""

WIDEST_BORDER = 0.3
"""Of the picture, on one side."""

KEPT_BACK = 0.25
DECAY = 0.1
"""Weight decay of the logistic regressions, on standardised inputs."""


def fit_view_checks(
    pixels: torch.Tensor, encode: Callable[[torch.Tensor], EncoderOutput], rng: np.random.Generator
) -> ViewChecks:
    """Checks fitted on model views `(N, 1, S, S)`, upright and the right way round as archives hold them.

    `encode` maps `(B, 1, S, S)` to tokens. Odd but proper pictures (`draw_alteration`: rotated a little,
    with black borders; and off the middle, with a black border on one side) count as proper.
    """
    columns: dict[str, list[EncoderOutput]] = {}
    first = encode(pixels[:1])
    checks = ViewChecks(first.cls.shape[1], first.patches.shape[1])
    for batch in pixels.split(8):
        pictures = {"plain": batch, "mirrored": batch.flip(-1)}
        for name, draw in (("odd", draw_alteration), ("aside", draw_border)):
            drawn = list(zip([draw(rng) for _ in batch], batch, strict=True))
            pictures[name] = torch.cat([a.picture(p[None]) for a, p in drawn])
            pictures[f"{name} mirrored"] = torch.cat([a.picture(p[None].flip(-1)) for a, p in drawn])
        pictures |= {
            "foreign": torch.cat([spoil(p[None], rng) for p in batch]),
        }
        pictures |= {f"negative {name}": 1 - pictures[name] for name in PROPER}
        for name, picture in pictures.items():
            columns.setdefault(name, []).append(checks.read(encode(picture)))
    tokens = {
        name: EncoderOutput(torch.cat([e.cls for e in parts]), torch.cat([e.patches for e in parts]))
        for name, parts in columns.items()
    }
    sides = {name: side_difference(encoded) for name, encoded in tokens.items()}
    views = {name: view_tokens(encoded) for name, encoded in tokens.items()}
    fitted = slice(0, round(len(pixels) * (1 - KEPT_BACK)))

    def gather(maps: dict[str, torch.Tensor], *names: str) -> torch.Tensor:
        return torch.cat([maps[name][fitted] for name in names])

    with torch.no_grad():
        proper = gather(views, *PROPER)
        checks.mean.copy_(proper.mean(0))
        checks.scale.copy_(proper.std(0).clamp_min(1e-6))
        weight, _ = logistic_regression(
            gather(sides, "mirrored", "odd mirrored", "aside mirrored"),
            gather(sides, "plain", "odd", "aside"),
        )
        checks.sides.weight.copy_(weight[None])
        standard = {name: (view - checks.mean) / checks.scale for name, view in views.items()}
        weight, bias = logistic_regression(gather(standard, "foreign"), gather(standard, *PROPER))
        checks.view.weight.copy_(weight[None])
        checks.view.bias.copy_(bias)
        weight, bias = logistic_regression(
            gather(standard, *(f"negative {name}" for name in PROPER)), gather(standard, *PROPER)
        )
        checks.polarity.weight.copy_(weight[None])
        checks.polarity.bias.copy_(bias)
    kept_back = slice(fitted.stop, None)
    with torch.no_grad():
        unmirrored = torch.cat([sides[name][kept_back] for name in ("plain", "odd", "aside")])
        upright = torch.cat([standard["plain"][kept_back], standard["mirrored"][kept_back]])
        distance = upright.square().mean(1)
        scores = (checks.sides(unmirrored)[:, 0], checks.view(upright)[:, 0], distance)
        borders = [score.quantile(1 - FALSE_ALARMS) for score in scores]
        checks.borders.copy_(torch.stack(borders))
    return checks


def draw_border(rng: np.random.Generator) -> Alteration:
    """A black border to the left or to the right, and what makes the picture a square again."""
    zoom = 1 / (1 - rng.uniform(0, WIDEST_BORDER))
    return Alteration(((zoom, 0.0, float(rng.choice((-1, 1))) * (zoom - 1)), (0.0, zoom, 0.0)))


def spoil(picture: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """`(1, 1, S, S)`: turned by quarters, upside down, a small part of it, or its quarters mixed."""
    way, side = int(rng.integers(6)), picture.shape[-1]
    if way < 3:
        return torch.rot90(picture, way + 1, (-2, -1))
    if way == 3:
        return picture.flip(-2)
    if way == 4:
        part = round(side * rng.uniform(0.25, 0.5))
        top, left = rng.integers(0, side - part, 2)
        return functional.interpolate(
            picture[..., top : top + part, left : left + part], (side, side), mode="bilinear"
        )
    quarters = [half for row in picture.chunk(2, -2) for half in row.chunk(2, -1)]
    order = np.roll(np.arange(4), int(rng.integers(1, 4)))
    top, bottom = (torch.cat([quarters[order[i]] for i in pair], -1) for pair in ((0, 1), (2, 3)))
    return torch.cat([top, bottom], -2)


def logistic_regression(
    positive: torch.Tensor, negative: torch.Tensor, decay: float = DECAY
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights `(n,)` and bias `(1,)` that tell the rows of two matrices apart; ridge penalty `decay`.

    The inputs are standardised for the fit, and the result undoes that.
    """
    rows = torch.cat([positive, negative]).double()
    wanted = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))]).double()
    mean, scale = rows.mean(0), rows.std(0).clamp_min(1e-6)
    rows = (rows - mean) / scale
    solution = torch.zeros(rows.shape[1] + 1, dtype=rows.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([solution], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(rows @ solution[1:] + solution[0], wanted)
        loss = loss + decay * solution[1:].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    weight = solution.detach()[1:] / scale
    return weight.float(), (solution.detach()[:1] - weight @ mean).float()
