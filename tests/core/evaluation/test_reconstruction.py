"""PSNR and SSIM of round trips with known damage."""

from __future__ import annotations

import json

import pytest
import torch

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.reconstruction import HIGHEST_PSNR, evaluate_reconstruction, grid_ratio


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(count, 1, 24, 24, generator=generator) * 0.8 for count in (3, 2)]


def test_exact_round_trip_is_perfect_and_still_json() -> None:
    report = evaluate_reconstruction(batches(), lambda batch: batch)
    assert report["n"] == 5
    assert report["psnr"]["mean"] == HIGHEST_PSNR
    assert report["ssim"]["mean"] == pytest.approx(1)
    json.dumps(report, allow_nan=False)


def test_constant_offset_gives_the_psnr_computed_by_hand() -> None:
    """An error of 0.1 everywhere: 10 log10(1 / 0.01) = 20 dB."""
    report = evaluate_reconstruction(batches(), lambda batch: batch + 0.1)
    assert report["psnr"]["mean"] == pytest.approx(20, abs=1e-3)
    assert report["psnr"]["sd"] == pytest.approx(0, abs=1e-3)


def test_more_damage_scores_lower() -> None:
    def noisy(strength: float) -> dict:
        generator = torch.Generator().manual_seed(1)
        return evaluate_reconstruction(
            batches(), lambda batch: batch + strength * torch.randn(batch.shape, generator=generator)
        )

    light, heavy = noisy(0.02), noisy(0.2)
    assert light["psnr"]["mean"] > heavy["psnr"]["mean"]
    assert light["ssim"]["mean"] > heavy["ssim"]["mean"]


def test_a_grid_shows_in_blocks_and_nowhere_else() -> None:
    generator = torch.Generator().manual_seed(0)
    grain = 0.1 * torch.rand(2, 1, 64, 48, generator=generator)
    steps = torch.rand(2, 1, 8, 6, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert grid_ratio(grain) == pytest.approx([1, 1], abs=0.1)
    assert (grid_ratio(grain + steps) > 3).all()
    assert (grid_ratio(grain + steps, spacing=5) < 1.5).all()
    assert grid_ratio(torch.zeros(1, 1, 16, 16)) == 0
    report = evaluate_reconstruction([grain], lambda batch: batch + steps)
    assert report["grid"]["mean"] > 3 > 1.1 > report["grid_before"]["mean"]


def test_no_image_is_one_sentence() -> None:
    with pytest.raises(EvaluationError, match="no image"):
        evaluate_reconstruction([], lambda batch: batch)
