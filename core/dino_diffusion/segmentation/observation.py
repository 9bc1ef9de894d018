"""What the models make of one radiograph: computed once, read by every way of segmenting it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dino_diffusion.device import inference
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.view import ModelView


@dataclass(frozen=True)
class Observation:
    """One radiograph through encoder, autoencoder and denoiser.

    `features` (times, 1, width, h, w) fp32 on the bundle's device: the denoiser's features at each of the
    read-out's noise levels, on the latent's grid.
    """

    radiograph: Radiograph
    view: ModelView
    encoded: Encoded
    features: torch.Tensor


def observe(bundle: ModelBundle, radiograph: Radiograph, seed: int = 0) -> Observation:
    """One denoiser pass a noise level of the read-out; depends on image, bundle and `seed` alone."""
    view = radiograph.model_view(bundle.size)
    layers, times = tuple(bundle.readout.config.layers), bundle.readout.config.times
    with inference(bundle.device):
        encoded = Encoded.of(view.pixels.to(bundle.device), bundle.encoder, bundle.autoencoder)
        features = [
            denoiser_features(
                bundle.denoiser, encoded, layers, time, torch.Generator().manual_seed(seed * 1009 + number)
            ).float()
            for number, time in enumerate(times)
        ]
    return Observation(radiograph, view, encoded, torch.stack(features))
