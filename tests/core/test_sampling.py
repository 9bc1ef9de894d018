"""Samplers against a Gaussian, whose velocity and flow are known exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor

from dino_diffusion.errors import Cancelled, ConfigurationError
from dino_diffusion.sampling import (
    SAMPLERS,
    Sampler,
    SamplingStep,
    VelocityModel,
    by_frequency,
    composed,
    dpmpp_2m,
    euler,
    guided,
    heun,
    initial_noise,
    low_frequencies,
    noised,
    resolution_shift,
    steered,
    time_grid,
)

MEAN, DEVIATION = 0.7, 0.4
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[eps - x0 | x_t] for x0 ~ N(MEAN, DEVIATION^2)."""
    t = t.reshape(-1, 1, 1, 1)
    centred = x - (1 - t) * MEAN
    variance = (1 - t) ** 2 * DEVIATION**2 + t**2
    return t / variance * centred - (MEAN + (1 - t) * DEVIATION**2 / variance * centred)


def gaussian_state(noise: Tensor, t: float) -> Tensor:
    """Where the exact flow has carried `noise` at level t."""
    return (1 - t) * MEAN + math.sqrt((1 - t) ** 2 * DEVIATION**2 + t**2) * noise


def noise_of(
    seed: int = 0, shape: tuple[int, ...] = (2, 3, 8, 8), dtype: torch.dtype = torch.float64
) -> Tensor:
    return initial_noise(shape, torch.Generator().manual_seed(seed), dtype=dtype)


def error(sampler: Sampler, steps: int, t_start: float = 1.0) -> float:
    noise = noise_of()
    x0 = sampler(gaussian_velocity, gaussian_state(noise, t_start), time_grid(steps, t_start=t_start))
    return (x0 - gaussian_state(noise, 0.0)).abs().mean().item()


class Counted:
    """A predictor that remembers its calls; v = x * condition + t, so that passes can be told apart."""

    def __init__(self) -> None:
        self.conditions: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        assert len(x) == len(t) == len(condition)
        self.conditions.append(condition)
        return x * condition + t.reshape(-1, 1, 1, 1)


# --- order and exactness ---------------------------------------------------------------------------


@every_sampler
def test_carries_noise_to_the_data_distribution(sampler: Sampler) -> None:
    x0 = sampler(gaussian_velocity, noise_of(shape=(4, 1, 64, 64)), time_grid(200))
    assert x0.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert x0.std().item() == pytest.approx(DEVIATION, abs=0.02)


H2_LOG_H = 2 - math.log2(math.log(256) / math.log(128))
"""What log2(error(128) / error(256)) is where the error goes as h^2 log(1/h), as `dpmpp_2m` documents."""


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, H2_LOG_H)])
@pytest.mark.parametrize("t_start", [1.0, 0.8])
def test_converges_with_its_order(sampler: Sampler, order: float, t_start: float) -> None:
    observed = math.log2(error(sampler, 128, t_start) / error(sampler, 256, t_start))
    assert observed == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("calls", [9, 15, 29])
def test_second_order_beats_euler_at_equal_model_calls(calls: int) -> None:
    assert error(heun, (calls + 1) // 2) < error(euler, calls)
    assert error(dpmpp_2m, calls) < error(euler, calls)


def test_euler_is_deterministic_ddim() -> None:
    noise, times = noise_of(), time_grid(7, shift=2.0)
    x = noise
    for t, s in itertools.pairwise(times):
        v = gaussian_velocity(x, t.expand(len(x)))
        clean, eps = x - t * v, x + (1 - t) * v
        x = (1 - s) * clean + s * eps
    torch.testing.assert_close(euler(gaussian_velocity, noise, times), x)


@every_sampler
def test_a_straight_flow_needs_one_step(sampler: Sampler) -> None:
    noise, target = noise_of(0), noise_of(1)
    times = time_grid(1)
    torch.testing.assert_close(sampler(lambda x, t: noise - target, noise, times), target)


@pytest.mark.parametrize(("sampler", "calls"), [(euler, 6), (heun, 11), (dpmpp_2m, 6)])
def test_model_calls_and_their_levels(sampler: Sampler, calls: int) -> None:
    levels: list[float] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x),)
        levels.append(t[0].item())
        return gaussian_velocity(x, t)

    sampler(velocity, noise_of(), time_grid(6))
    assert len(levels) == calls
    assert levels[0] == 1 and min(levels) > 0


@every_sampler
def test_half_precision_state_keeps_its_dtype_and_a_float32_time(sampler: Sampler) -> None:
    seen: set[torch.dtype] = set()

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.add(t.dtype)
        return gaussian_velocity(x.float(), t)

    x0 = sampler(velocity, noise_of(dtype=torch.bfloat16), time_grid(4))
    assert x0.dtype == torch.bfloat16 and seen == {torch.float32}


@every_sampler
def test_builds_no_graph_and_leaves_the_noise_alone(sampler: Sampler) -> None:
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    noise = noise_of()
    before = noise.clone()
    x0 = sampler(lambda x, t: weight * gaussian_velocity(x, t), noise, time_grid(3))
    assert not x0.requires_grad
    assert torch.equal(noise, before)


# --- noise, times ----------------------------------------------------------------------------------


@every_sampler
def test_same_seed_same_image(sampler: Sampler) -> None:
    images = [sampler(gaussian_velocity, noise_of(seed), time_grid(5)) for seed in (3, 3, 4)]
    assert torch.equal(images[0], images[1])
    assert not torch.allclose(images[0], images[2])


def test_noise_does_not_depend_on_batch_or_dtype() -> None:
    four, one = noise_of(5, (4, 4, 8, 8), torch.float32), noise_of(5, (1, 4, 8, 8), torch.float32)
    assert torch.equal(four[:1], one)
    assert torch.equal(noise_of(5, (1, 4, 8, 8), torch.bfloat16), one.bfloat16())
    assert four.std().item() == pytest.approx(1, abs=0.1)
    assert not torch.equal(four[0], four[1])


def test_a_generator_on_another_device_is_refused() -> None:
    elsewhere = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ConfigurationError, match=r"torch\.Generator"):
        initial_noise((1, 4, 8, 8), cast(torch.Generator, elsewhere))


def test_noised_interpolates_for_one_level_or_one_per_image() -> None:
    x0, eps = noise_of(0), noise_of(1)
    assert torch.equal(noised(x0, eps, 0.0), x0)
    assert torch.equal(noised(x0, eps, 1.0), eps)
    mixed = noised(x0, eps, torch.tensor([0.0, 0.25]))
    assert torch.equal(mixed[0], x0[0])
    torch.testing.assert_close(mixed[1], noised(x0, eps, 0.25)[1])


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("t_start", [0.3, 1.0])
def test_time_grid_falls_from_start_to_exactly_zero(shift: float, t_start: float) -> None:
    times = time_grid(10, shift, t_start)
    assert times.shape == (11,)
    assert times[0] == t_start and times[-1] == 0
    assert bool((times.diff() < 0).all())


def test_time_grid_shift_follows_sd3() -> None:
    torch.testing.assert_close(time_grid(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
    assert time_grid(4, shift=3.0)[2].item() == pytest.approx(0.75)
    assert resolution_shift((64, 64), (32, 32)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: time_grid(0),
        lambda: time_grid(5, shift=0.0),
        lambda: time_grid(5, shift=math.nan),
        lambda: time_grid(5, t_start=1.5),
        lambda: time_grid(5, t_start=0.0),
        lambda: euler(gaussian_velocity, noise_of(), torch.tensor([0.0, 1.0])),
        lambda: euler(gaussian_velocity, noise_of(), torch.tensor([1.0, 0.5])),
        lambda: euler(gaussian_velocity, noise_of(), torch.tensor([0.0])),
        lambda: composed(Counted(), [torch.ones(1)], [1.0, 2.0], torch.zeros(1)),
    ],
)
def test_settings_without_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()


# --- callback, cancel, project ---------------------------------------------------------------------


@every_sampler
def test_callback_sees_every_step_and_an_estimate_of_the_result(sampler: Sampler) -> None:
    steps: list[SamplingStep] = []
    x0 = sampler(gaussian_velocity, noise_of(), time_grid(6), callback=steps.append)
    assert [(step.index, step.total) for step in steps] == [(i, 6) for i in range(1, 7)]
    assert [step.t for step in steps] == time_grid(6)[:-1].tolist()
    errors = [(step.estimate - x0).abs().mean().item() for step in steps]
    assert errors == sorted(errors, reverse=True)
    torch.testing.assert_close(steps[-1].estimate, x0)


@every_sampler
@pytest.mark.parametrize("raising", [False, True])
def test_cancel_makes_no_further_model_call(sampler: Sampler, raising: bool) -> None:
    calls_at_cancel: list[int] = []
    calls = 0

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return gaussian_velocity(x, t)

    def callback(step: SamplingStep) -> bool:
        if step.index < 3:
            return True
        calls_at_cancel.append(calls)
        if raising:
            raise Cancelled("The server is shutting down: ask again later.")
        return False

    with pytest.raises(Cancelled):
        sampler(velocity, noise_of(), time_grid(20), callback)
    assert calls_at_cancel == [calls]


@every_sampler
def test_project_keeps_the_known_part(sampler: Sampler) -> None:
    known, noise = noise_of(1), noise_of(0)
    mask = torch.zeros_like(known)
    mask[..., :4] = 1
    levels: list[float] = []

    def project(x: Tensor, t: float) -> Tensor:
        levels.append(t)
        return torch.where(mask > 0, noised(known, noise, t), x)

    x0 = sampler(gaussian_velocity, noise, time_grid(12), project=project)
    assert levels == time_grid(12)[1:].tolist()
    assert torch.equal(x0[..., :4], known[..., :4])
    torch.testing.assert_close(x0[..., 4:], sampler(gaussian_velocity, noise, time_grid(12))[..., 4:])


# --- guidance --------------------------------------------------------------------------------------

CONDITION, NOTHING = torch.full((2, 1, 1, 1), 0.5), torch.full((2, 1, 1, 1), -0.25)
LEVELS = torch.tensor([0.6, 0.6])


def at(velocity: VelocityModel, t: Tensor = LEVELS) -> Tensor:
    return velocity(noise_of(dtype=torch.float32), t)


def test_guidance_equals_separate_passes_in_one_batched_call() -> None:
    predict = Counted()
    together = at(guided(predict, CONDITION, NOTHING, 3.0))
    assert len(predict.conditions) == 1
    v_c, v_u = (at(lambda x, t, c=c: predict(x, t, c)) for c in (CONDITION, NOTHING))
    torch.testing.assert_close(together, v_u + 3.0 * (v_c - v_u))


def test_much_guidance_does_not_multiply_the_rounding_of_its_own_difference() -> None:
    def half(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return (x + condition).bfloat16()

    v_c, v_u = (at(lambda x, t, c=c: half(x, t, c)).double() for c in (CONDITION, NOTHING))
    v = at(guided(half, CONDITION, NOTHING, 20.0))
    torch.testing.assert_close(v.double(), v_u + 20.0 * (v_c - v_u), rtol=1e-5, atol=1e-5)


def test_scale_one_is_the_conditional_pass_alone() -> None:
    predict = Counted()
    v = at(guided(predict, CONDITION, NOTHING, 1.0))
    assert [len(c) for c in predict.conditions] == [2]
    assert torch.equal(v, at(lambda x, t: Counted()(x, t, CONDITION)))


def test_unconditional_pass_runs_only_inside_the_interval() -> None:
    predict = Counted()
    euler(guided(predict, CONDITION, NOTHING, 2.0, interval=(0.3, 0.8)), noise_of(), time_grid(10))
    batches = [len(c) for c in predict.conditions]
    assert batches == [2, 2, 4, 4, 4, 4, 4, 4, 2, 2]


def test_interval_holds_for_each_image_of_a_mixed_batch() -> None:
    v = at(guided(Counted(), CONDITION, NOTHING, 2.0, interval=(0.0, 0.5)), torch.tensor([0.2, 0.9]))
    inside = at(guided(Counted(), CONDITION, NOTHING, 2.0), torch.tensor([0.2, 0.9]))
    outside = at(guided(Counted(), CONDITION, NOTHING, 1.0), torch.tensor([0.2, 0.9]))
    assert torch.equal(v[0], inside[0]) and torch.equal(v[1], outside[1])


def test_conditions_need_only_a_way_to_be_joined() -> None:
    def predict(x: Tensor, t: Tensor, names: tuple[str, ...]) -> Tensor:
        values = torch.tensor([float(len(name)) for name in names])
        return x * values.reshape(-1, 1, 1, 1)

    def join(parts: list[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(name for part in parts for name in part)

    x = noise_of(dtype=torch.float32)
    v = guided(predict, ("ab", "abc"), ("", ""), 2.0, concatenate=join)(x, LEVELS)
    torch.testing.assert_close(v, x * torch.tensor([4.0, 6.0]).reshape(2, 1, 1, 1))


def test_composition_equals_separate_passes_in_one_batched_call() -> None:
    predict = Counted()
    other = torch.full((2, 1, 1, 1), 1.5)
    together = at(composed(predict, [CONDITION, other], [1.5, -0.75], NOTHING))
    assert [len(c) for c in predict.conditions] == [6]
    v_a, v_b, v_u = (at(lambda x, t, c=c: predict(x, t, c)) for c in (CONDITION, other, NOTHING))
    torch.testing.assert_close(together, v_u + 1.5 * (v_a - v_u) - 0.75 * (v_b - v_u))


def test_a_composition_that_cancels_the_unconditional_part_does_not_compute_it() -> None:
    predict = Counted()
    other = torch.full((2, 1, 1, 1), 1.5)
    together = at(composed(predict, [CONDITION, other], [4.1, -3.1], NOTHING))
    assert [len(c) for c in predict.conditions] == [4]
    v_a, v_b = (at(lambda x, t, c=c: predict(x, t, c)) for c in (CONDITION, other))
    torch.testing.assert_close(together, 4.1 * v_a - 3.1 * v_b)


def test_steering_emphasises_the_change_in_one_batched_call() -> None:
    """By the definition: each velocity alone; weights of 0 in all need no v_u."""
    predict = Counted()
    other = torch.full((2, 1, 1, 1), 1.5)
    found = at(steered(predict, NOTHING, [CONDITION, other], [0.5, -0.5], NOTHING, lambda d: 2 * d + 1))
    assert [len(c) for c in predict.conditions] == [6]
    v_a, v_b, v_n = (at(lambda x, t, c=c: predict(x, t, c)).float() for c in (CONDITION, other, NOTHING))
    torch.testing.assert_close(found, v_n + (v_a - v_b) + 1)
    at(steered(predict, NOTHING, [CONDITION], [0.5], NOTHING, by_frequency(8.0, 2.0)))
    assert len(predict.conditions[-1]) == 6


def test_coarse_and_fine_changes_are_followed_apart() -> None:
    change = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    coarse = low_frequencies(change)
    found = by_frequency(8.0, 2.0)(change)
    torch.testing.assert_close(found, 8 * coarse + 2 * (change - coarse))
    torch.testing.assert_close(by_frequency(3.0, 3.0)(change), 3 * change)


def test_low_frequencies_keep_the_level_and_drop_the_grain() -> None:
    level = torch.full((1, 1, 32, 32), 3.0)
    torch.testing.assert_close(low_frequencies(level), level)
    grain = torch.ones(1, 1, 32, 32)
    grain[..., ::2] = -1
    assert low_frequencies(grain).abs().max() < 0.25
    wide = torch.sin(torch.linspace(0, torch.pi, 32)).expand(1, 1, 32, 32)
    assert (low_frequencies(wide) - wide).abs().max() < 0.2


def test_composing_one_condition_is_guidance() -> None:
    torch.testing.assert_close(
        at(composed(Counted(), [CONDITION], [2.5], NOTHING)), at(guided(Counted(), CONDITION, NOTHING, 2.5))
    )
