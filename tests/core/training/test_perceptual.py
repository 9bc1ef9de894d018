import sys

import pytest
import torch
from torch.nn import functional

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.training import perceptual


def test_blur_costs_and_the_same_picture_costs_nothing() -> None:
    pytest.importorskip("stlpips_pytorch", reason="needs the extra 'training' (stlpips_pytorch)")
    installed = {name for name in perceptual.UNUSED if name in sys.modules}
    loss = perceptual.perceptual_loss()
    pixels = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(pixels, 3, 1, 1).requires_grad_()
    assert loss(pixels, pixels) == 0 < loss(blurred, pixels)
    loss(blurred, pixels).backward()
    assert blurred.grad is not None and blurred.grad.abs().sum() > 0
    assert {name for name in perceptual.UNUSED if name in sys.modules} == installed


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    monkeypatch.delitem(sys.modules, "stlpips_pytorch.stlpips", raising=False)
    with pytest.raises(ConfigurationError, match="set perceptual = 0"):
        perceptual.perceptual_loss()
