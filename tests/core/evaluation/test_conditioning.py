"""The measures of the frame tell a denoiser that heeds it from one that does not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dino_diffusion.evaluation.conditioning import (
    PARTS,
    SOURCE_SIDES,
    Framed,
    draw_framed,
    evaluate_conditioning,
    fine_detail,
)
from dino_diffusion.models import ModelBundle
from tests.tiny import SIZE, smooth_picture, tiny_bundle


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def draws(bundle: ModelBundle) -> list[Framed]:
    return [draw_framed(bundle, seed, steps=2) for seed in (0, 1, 2)]


def test_every_picture_is_drawn_and_reported(bundle: ModelBundle, draws: list[Framed]) -> None:
    assert draws[0].sides.keys() == set(SOURCE_SIDES)
    for part in PARTS:
        assert draws[0].own_tokens[part].shape == draws[0].whole.shape == (1, 1, SIZE, SIZE)
    assert not torch.equal(draws[0].whole_tokens["centre"], draws[0].whole_tokens["upper left"])
    report = evaluate_conditioning(bundle, draws)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["n"] == 3 and report["fine"]["224"] == 1


def test_parts_drawn_as_they_are_cut_out_are_found(bundle: ModelBundle, draws: list[Framed]) -> None:
    wholes = [torch.from_numpy(smooth_picture(seed))[None, None] for seed in range(3)]
    boxes = {"upper left": (0, 0), "centre": (16, 16), "lower right": (32, 32)}
    honest = []
    for draw, whole in zip(draws, wholes, strict=True):
        parts = {
            name: torch.nn.functional.interpolate(whole[..., y : y + 32, x : x + 32], SIZE, mode="bilinear")
            for name, (x, y) in boxes.items()
        }
        honest.append(replace(draw, cut_out=parts, whole_tokens=parts, own_tokens=parts))
    found = evaluate_conditioning(bundle, honest)["own_tokens"]
    assert found["found"] == 1 and found["own"] == pytest.approx(1) and found["others"] < found["own"]


def test_fine_detail_is_what_a_blur_takes() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.random((1, 1, SIZE, SIZE)))
    blurred = torch.nn.functional.avg_pool2d(noise, 5, 1, padding=2)
    assert fine_detail(noise) == pytest.approx(0.75, abs=0.05), "white noise: all squares but the inner one"
    assert fine_detail(blurred) < 0.3 * fine_detail(noise)
    assert fine_detail(0.5 * noise) == pytest.approx(fine_detail(noise))
