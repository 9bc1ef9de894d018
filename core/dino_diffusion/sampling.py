"""Pure samplers for rectified flow, classifier-free guidance and the noise they start from.

Convention (Liu et al. 2022, "Flow Straight and Fast"; Lipman et al. 2023): x_t = (1 - t) x0 + t eps,
velocity v = dx/dt = eps - x0, t from 1 (noise) to 0 (clean). Therefore x0 = x_t - t v and
eps = x_t + (1 - t) v, whatever t is.

A sampler is a function `sampler(velocity, noise, times, callback=None, project=None) -> x0`; the network
hides behind `VelocityModel`, so every sampler fits every denoiser, guided or not. Same noise, same
times, same device: same image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from dino_diffusion.errors import Cancelled, ConfigurationError

Condition = TypeVar("Condition")

VelocityModel = Callable[[Tensor, Tensor], Tensor]
"""`(x (B, C, h, w), t (B,)) -> v (B, C, h, w)`."""

Predictor = Callable[[Tensor, Tensor, Condition], Tensor]
"""`(x (B, C, h, w), t (B,), condition of B images) -> v (B, C, h, w)`."""

Concatenate = Callable[[list[Condition]], Condition]
"""Joins conditions along the batch; `torch.cat` where a condition is one tensor."""

Emphasis = Callable[[Tensor], Tensor]
"""`change (B, C, h, w) -> change`: how far each part of a change is followed; `by_frequency`."""

Project = Callable[[Tensor, float], Tensor]
"""`(x (B, C, h, w) at noise level t, t) -> x`: called after every step, the last (t = 0) included.
Inpainting puts the known part back here: blended latent diffusion, differential diffusion."""


@dataclass(frozen=True, eq=False)
class SamplingStep:
    """What a callback sees once a step is done."""

    index: int
    """Steps done so far, 1 to `total`."""
    total: int
    t: float
    """Noise level at which `estimate` was made, in [0, 1]."""
    estimate: Tensor
    """Current estimate of the clean latents x0, `(B, C, h, w)`: decode it for a preview."""


Callback = Callable[[SamplingStep], bool | None]
"""Returning False, or raising `Cancelled`, stops the sampling: no further model call is made."""


class Sampler(Protocol):
    """`noise` is x at `times[0]`: pure noise at 1, a partly noised image (`noised`) below 1."""

    def __call__(
        self,
        velocity: VelocityModel,
        noise: Tensor,
        times: Tensor,
        callback: Callback | None = None,
        project: Project | None = None,
    ) -> Tensor: ...


# --- where sampling starts -------------------------------------------------------------------------


def initial_noise(
    shape: Sequence[int],
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise of `shape` (B, C, h, w), the same on every device and in every batch.

    Drawn in float32 on the CPU, image by image: a seed means the same image on a GPU as on a CPU, and the
    first of four images is the one that a batch of one would give (so a batch may be split when memory is
    short). Raises ConfigurationError for a generator that does not live on the CPU.
    """
    if generator.device.type != "cpu":
        raise ConfigurationError(
            f"The noise generator lives on {generator.device}, where a seed means another image: "
            "make it with torch.Generator('cpu')."
        )
    images = [torch.randn(tuple(shape[1:]), generator=generator) for _ in range(shape[0])]
    return torch.stack(images).to(device=device, dtype=dtype)


def noised(x0: Tensor, eps: Tensor, t: float | Tensor) -> Tensor:
    """x_t = (1 - t) x0 + t eps: the start of image-to-image sampling. `t` is one number or `(B,)`."""
    if isinstance(t, Tensor):
        t = t.to(x0).reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - t) * x0 + t * eps


def time_grid(steps: int, shift: float = 1.0, t_start: float = 1.0) -> Tensor:
    """`(steps + 1,)` float64 noise levels, from exactly `t_start` down to exactly 0.

    Uniform in u, then t = s u / (1 + (s - 1) u) (Esser et al. 2024, "Scaling Rectified Flow Transformers",
    eq. 23): a shift s above 1 spends more steps on high noise, as larger pictures need (`resolution_shift`).
    `t_start` below 1 is the strength of image-to-image sampling; it is the noise level itself, shift or not.
    """
    if steps < 1:
        raise ConfigurationError(f"Sampling in {steps} steps is not possible: ask for 1 or more.")
    if not (shift > 0 and math.isfinite(shift)):
        raise ConfigurationError(f"A timestep shift of {shift} makes no sense: use a number above 0.")
    if not 0 < t_start <= 1:
        raise ConfigurationError(f"Sampling cannot start at t = {t_start}: use a number in (0, 1].")
    u_start = t_start / (shift - (shift - 1) * t_start)
    u = torch.linspace(u_start, 0.0, steps + 1, dtype=torch.float64)
    times = shift * u / (1 + (shift - 1) * u)
    times[0], times[-1] = t_start, 0.0
    return times


def steps_below(t_start: float, steps: int, shift: float = 1.0) -> int:
    """How many of the `steps` of the whole way lie below `t_start`, at least one: as dense as from noise."""
    return max(min(1, steps), round(steps * t_start / (shift - (shift - 1) * t_start)))


def resolution_shift(size: tuple[int, int], trained: tuple[int, int]) -> float:
    """Shift that gives latents of `size` (h, w) the signal-to-noise ratio known from `trained` (h, w).

    sqrt(n / m) for n pixels against m (Esser et al. 2024, eq. 23 and the text above it).
    """
    return math.sqrt(math.prod(size) / math.prod(trained))


# --- guidance --------------------------------------------------------------------------------------


def guided(
    predict: Predictor[Condition],
    condition: Condition,
    unconditional: Condition,
    scale: float,
    *,
    interval: tuple[float, float] = (0.0, 1.0),
    concatenate: Concatenate[Condition] = torch.cat,  # type: ignore[assignment]
) -> VelocityModel:
    """Classifier-free guidance v = v_u + scale (v_c - v_u) (Ho & Salimans 2022), for t inside `interval`.

    Outside the closed interval [lo, hi] and at scale 1 only the conditional pass is run (Kynkaanniemi et
    al. 2024, "Applying Guidance in a Limited Interval"; their sigma is t / (1 - t)). Inside, both passes
    are one batch of 2 B. `condition` and `unconditional` cover B images each; `concatenate` joins them.
    """
    low, high = interval

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        inside = (t >= low) & (t <= high)
        if scale == 1 or not bool(inside.any()):
            return predict(x, t, condition)
        v_c, v_u = _in_one_batch(predict, x, t, [condition, unconditional], concatenate)
        return torch.where(_per_image(inside, x), v_u + scale * (v_c - v_u), v_c)

    return velocity


def composed(
    predict: Predictor[Condition],
    conditions: Sequence[Condition],
    weights: Sequence[float],
    unconditional: Condition,
    *,
    concatenate: Concatenate[Condition] = torch.cat,  # type: ignore[assignment]
) -> VelocityModel:
    """Several conditions at once: v = v_u + sum_i w_i (v_i - v_u), in one batch of (n + 1) B.

    Liu et al. 2022, "Compositional Visual Generation with Composable Diffusion Models", eq. 11; a negative
    weight leads away from its condition. Weights of 1 in all cancel v_u: it is then not computed. Raises
    ConfigurationError unless there is one weight a condition.
    """
    if len(conditions) != len(weights) or not conditions:
        raise ConfigurationError(
            f"{len(conditions)} conditions need as many weights, not {len(weights)}: give each its own."
        )

    rest = 1 - math.fsum(weights)
    terms = list(zip(weights, conditions, strict=True))
    if abs(rest) > 1e-9:
        terms.append((rest, unconditional))
    factors, shown = zip(*terms, strict=True)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        parts = _in_one_batch(predict, x, t, list(shown), concatenate)
        return torch.stack([w * v for w, v in zip(factors, parts, strict=True)]).sum(0)

    return velocity


def steered(
    predict: Predictor[Condition],
    base: Condition,
    conditions: Sequence[Condition],
    weights: Sequence[float],
    unconditional: Condition,
    emphasis: Emphasis,
    *,
    concatenate: Concatenate[Condition] = torch.cat,  # type: ignore[assignment]
) -> VelocityModel:
    """v = v_b + emphasis(d) with d = sum_i w_i (v_i - v_u), in one batch.

    Weights of 0 in all cancel v_u: it is then not computed.
    """
    rest = -math.fsum(weights)
    terms = list(zip(weights, conditions, strict=True))
    if abs(rest) > 1e-9:
        terms.append((rest, unconditional))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        shown = [base, *(condition for _, condition in terms)]
        v_b, *parts = _in_one_batch(predict, x, t, shown, concatenate)
        change = torch.stack([w * v for (w, _), v in zip(terms, parts, strict=True)]).sum(0)
        return v_b + emphasis(change)

    return velocity


def by_frequency(coarse: float, fine: float) -> Emphasis:
    """`coarse` times what is larger than about a sixth of the picture, `fine` times the rest.

    Guidance apart by frequency (Sadat et al. 2025, arXiv 2506.19713). Over a whole picture much of all of a
    change turns ribs and grain into scars.
    """

    def emphasis(change: Tensor) -> Tensor:
        low = low_frequencies(change)
        return coarse * low + fine * (change - low)

    return emphasis


def low_frequencies(x: Tensor) -> Tensor:
    """`(B, C, h, w)` without what is smaller than about a sixth of its height: two box filters in a row."""
    reach = max(1, round(x.shape[2] / 16))
    for _ in range(2):
        x = functional.avg_pool2d(x, 2 * reach + 1, 1, reach, count_include_pad=False)
    return x


def _in_one_batch(
    predict: Predictor[Condition],
    x: Tensor,
    t: Tensor,
    conditions: list[Condition],
    concatenate: Concatenate[Condition],
) -> tuple[Tensor, ...]:
    """One velocity `(B, C, h, w)` a condition, from a single call of the network."""
    n = len(conditions)
    found = predict(x.repeat(n, 1, 1, 1), t.repeat(n), concatenate(conditions))
    # Large weights of both signs: half precision would lose what they differ by a second time.
    return found.to(torch.promote_types(found.dtype, torch.float32)).chunk(n)


def _per_image(values: Tensor, x: Tensor) -> Tensor:
    """`(B,)` to `(B, 1, 1, 1)`, to broadcast over `x`."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


# --- samplers --------------------------------------------------------------------------------------


def euler(
    velocity: VelocityModel,
    noise: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    project: Project | None = None,
) -> Tensor:
    """First order, one model call a step: x_s = x_t + (s - t) v.

    This is deterministic DDIM (Song et al. 2021, eq. 12 with sigma = 0) for the flow's alpha = 1 - t,
    sigma = t: x_s = (1 - s) x0 + s eps with x0 = x_t - t v, eps = x_t + (1 - t) v is x_t + (s - t) v.
    """

    def advance(x: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
        v = _evaluate(velocity, x, t)
        return x + (s - t) * v, x - t * v

    return _run(advance, noise, times, callback, project)


def heun(
    velocity: VelocityModel,
    noise: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    project: Project | None = None,
) -> Tensor:
    """Second order, two model calls a step but one in the last: 2 N - 1 calls (Karras et al. 2022, alg. 1).

    The step to t = 0 is Euler's, because training shows the network next to nothing at t = 0. One such step
    has an error of O(h^2), so the whole stays second order.
    """

    def advance(x: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
        v = _evaluate(velocity, x, t)
        ahead = x + (s - t) * v
        if s > 0:
            ahead = x + (s - t) * (v + _evaluate(velocity, ahead, s)) / 2
        return ahead, x - t * v

    return _run(advance, noise, times, callback, project)


def dpmpp_2m(
    velocity: VelocityModel,
    noise: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    project: Project | None = None,
) -> Tensor:
    """DPM-Solver++(2M), second order at one model call a step (Lu et al. 2022, alg. 2), data prediction.

    With alpha = 1 - t, sigma = t, lambda = log(alpha / sigma), h = lambda_s - lambda_t the update
    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) D is x_s = (s / t) x_t + (1 - s / t) D: finite at both
    ends. D = x0_i + (h_i / (2 h_(i-1))) (x0_i - x0_(i-1)). Where lambda is infinite the correction has no
    meaning and D = x0_i: in the first step (no history), in the second after a start at t = 1, in the last
    to t = 0. Each of these has an error of O(h^2). On a grid uniform in t the steps next to both ends stay
    long in lambda, however many they are, and add up to O(h^2 log(1/h)) in all.
    """
    previous: tuple[float, Tensor] | None = None

    def advance(x: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
        nonlocal previous
        estimate = data = x - t * _evaluate(velocity, x, t)
        if previous is not None and previous[0] < 1 and s > 0:
            before, old = previous
            ratio = (_log_snr(s) - _log_snr(t)) / (_log_snr(t) - _log_snr(before))
            data = estimate + ratio / 2 * (estimate - old)
        previous = (t, estimate)
        return (s / t) * x + (1 - s / t) * data, estimate

    return _run(advance, noise, times, callback, project)


SAMPLERS: dict[str, Sampler] = {"euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}
"""By name, for the command line and for recipes."""


def _log_snr(t: float) -> float:
    """lambda(t) = log(alpha / sigma) for 0 < t < 1."""
    return math.log((1 - t) / t)


def _evaluate(velocity: VelocityModel, x: Tensor, t: float) -> Tensor:
    """Velocity `(B, C, h, w)` at noise level `t`, in the dtype of `x`; `t` itself never below float32."""
    level = torch.full((x.shape[0],), t, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
    return velocity(x, level).to(x.dtype)


@torch.no_grad()
def _run(
    advance: Callable[[Tensor, float, float], tuple[Tensor, Tensor]],
    noise: Tensor,
    times: Tensor,
    callback: Callback | None,
    project: Project | None,
) -> Tensor:
    """Walk down `times` with `advance(x, t, s) -> (x at s, estimate of x0)`; builds no autograd graph."""
    levels = [float(t) for t in times]
    _check_levels(levels)
    x, total = noise, len(levels) - 1
    for index, (t, s) in enumerate(itertools.pairwise(levels), start=1):
        x, estimate = advance(x, t, s)
        if project is not None:
            x = project(x, s)
        if callback is not None and callback(SamplingStep(index, total, t, estimate)) is False:
            raise Cancelled(f"Sampling was cancelled after step {index} of {total}: start it again.")
    return x


def _check_levels(levels: list[float]) -> None:
    falling = all(t > s for t, s in itertools.pairwise(levels))
    if len(levels) < 2 or not falling or levels[0] > 1 or levels[-1] != 0:
        raise ConfigurationError("Noise levels must fall strictly, from 1 or less to 0: use time_grid.")
