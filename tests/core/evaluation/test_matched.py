"""Conditions of training radiographs in the proportions of others."""

from __future__ import annotations

import pytest
import torch

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.matched import matched
from dino_diffusion.models import EncoderOutput

TOKENS = EncoderOutput(torch.arange(10.0)[:, None], torch.arange(10.0).reshape(10, 1, 1, 1))
SOURCES = ["many"] * 8 + ["few"] * 2


def test_sources_are_as_frequent_as_wanted() -> None:
    choice = matched(TOKENS, SOURCES, ["few", "few", "many", "few", "unknown"])
    drawn = choice.sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.cls.flatten(), drawn.patches.flatten()), "tokens of different radiographs"
    assert (drawn.cls >= 8).double().mean() == pytest.approx(0.75, abs=0.03)
    assert drawn.cls.unique().numel() == 10


def test_a_source_that_is_not_wanted_is_never_drawn() -> None:
    drawn = matched(TOKENS, SOURCES, ["few"]).sample(100, torch.Generator().manual_seed(0))
    assert drawn.cls.min() >= 8


def test_no_source_in_common_is_refused() -> None:
    with pytest.raises(EvaluationError, match="other, third"):
        matched(TOKENS, SOURCES, ["other", "third"])
