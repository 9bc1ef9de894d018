"""Shift-tolerant perceptual loss (ST-LPIPS, Ghildyal and Liu, ECCV 2022), from the optional `stlpips_pytorch`."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from types import ModuleType

import torch
from torch import nn

from dino_diffusion.errors import ConfigurationError


class PerceptualLoss(nn.Module):
    """Mean perceptual distance of two `(B, 1, H, W)` batches in [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, restored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        first, second = (x.clamp(0, 1).expand(-1, 3, -1, -1) * 2 - 1 for x in (restored, pixels))
        return self.network(first, second).mean()


def perceptual_loss() -> PerceptualLoss:
    """Loads the network with the weights its package carries."""
    # The package imports these at the top, for parts of it that are not used here.
    for name in ("torchvision", "torchvision.models", "torchvision.transforms", "torchsummary", "IPython"):
        _stand_in(name)
    try:
        package = importlib.import_module("stlpips_pytorch.stlpips")
    except ImportError as error:
        raise ConfigurationError(
            f"The perceptual loss needs the package stlpips_pytorch ({error}); install the extra 'training' "
            "or set perceptual = 0."
        ) from error
    return PerceptualLoss(package.LPIPS(net="alex", variant="shift_tolerant"))


def _stand_in(name: str) -> None:
    if name in sys.modules or importlib.util.find_spec(name.partition(".")[0]):
        return
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
    module.__getattr__ = lambda attribute: None  # type: ignore[method-assign]
    sys.modules[name] = module
