"""Shift-tolerant perceptual loss: ST-LPIPS (Ghildyal and Liu, ECCV 2022), from `stlpips_pytorch`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from dino_diffusion.errors import ConfigurationError

UNUSED = ("torchvision", "torchvision.models", "torchsummary", "IPython")
"""stlpips_pytorch imports these at its top, for parts of it that are not used here."""


class PerceptualLoss(nn.Module):
    """Mean perceptual distance of two `(B, 1, H, W)` batches in [0, 1], as a tensor of no dimension."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, restored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        # No clamp: outside [0, 1] its gradient would be lost. Contiguous, as the network works in place.
        first, second = (x.repeat(1, 3, 1, 1) * 2 - 1 for x in (restored, pixels))
        return self.network(first, second).mean()


def perceptual_loss() -> PerceptualLoss:
    """The AlexNet variant with the weights its package carries. Raises ConfigurationError without it."""
    try:
        with _stand_ins():
            package = importlib.import_module("stlpips_pytorch.stlpips")
        network = package.LPIPS(pretrained=False, net="alex", variant="shift_tolerant", verbose=False)
        # Read here and not by the package, so that whatever its file holds nothing but tensors is loaded.
        weights = Path(str(package.__file__)).parent / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
        state = torch.load(weights, map_location="cpu", weights_only=True)
        # `lins` is a second name of the layers lin0 to lin4, which the file does not repeat.
        network.load_state_dict(
            state | {f"lins.{i}.model.1.weight": state[f"lin{i}.model.1.weight"] for i in range(5)}
        )
        return PerceptualLoss(network)
    except (ImportError, OSError, RuntimeError, KeyError) as error:
        raise ConfigurationError(
            f"The perceptual loss needs the package stlpips_pytorch with its weights ({error}); "
            "install the extra 'training' or set perceptual = 0."
        ) from error


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Empty modules in place of the unused ones that are not installed, for the time of the import."""
    missing = [name for name in UNUSED if importlib.util.find_spec(name.partition(".")[0]) is None]
    for name in missing:
        module = ModuleType(name)
        module.__getattr__ = lambda attribute: None  # type: ignore[method-assign]
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            sys.modules.pop(name, None)
