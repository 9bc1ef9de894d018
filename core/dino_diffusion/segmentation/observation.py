"""What the models make of one radiograph: computed once, read by every way of segmenting it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from dino_diffusion.attention import AttentionMap, capture_attention
from dino_diffusion.device import inference
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.features import Encoded, layer_features
from dino_diffusion.view import ModelView
from dino_diffusion.view_report import PROPER, ViewReport


@dataclass(frozen=True)
class Observation:
    """One radiograph through encoder, autoencoder and denoiser.

    `features` (times, 1, width, h, w) fp32 on the bundle's device: the denoiser's features at each of the
    read-out's noise levels, on the latent's grid. `widths`: how many channels each layer has in them.
    `report`: what the bundle's checks say of the picture; `view` shows bone bright even where that does not.
    `attention`: the denoiser's self-attention in the same passes, heads averaged, on the bundle's device;
    empty where it was not asked for.
    """

    radiograph: Radiograph
    view: ModelView
    encoded: Encoded
    features: torch.Tensor
    widths: tuple[int, ...]
    seed: int = 0
    report: ViewReport = PROPER
    attention: tuple[AttentionMap, ...] = ()


def observe(
    bundle: ModelBundle,
    radiograph: Radiograph,
    seed: int = 0,
    attention: bool = False,
    callback: Callable[[int, int], None] | None = None,
) -> Observation:
    """One denoiser pass a noise level of the read-out; depends on image, bundle and `seed` alone.

    The callback hears (done, total) after every pass, and may raise Cancelled.
    """
    view, encoded, report = look(bundle, radiograph)
    layers, maps = _passes(bundle, encoded, seed, attention, callback)
    features, widths = _joined(layers)
    return Observation(radiograph, view, encoded, features, widths, seed, report, maps)


def observe_many(
    bundle: ModelBundle, pictures: Sequence[tuple[Radiograph, ModelView]], seed: int = 0
) -> list[Observation]:
    """Several with their model views at once, which keeps a GPU busy.

    Each is seen as `observe` sees it alone, but for rounding.
    """
    radiographs, views = zip(*pictures, strict=True)
    with inference(bundle.device):
        pixels = torch.cat([view.pixels for view in views]).to(bundle.device)
        encoded = Encoded.of(pixels, bundle.encoder, bundle.autoencoder)
        reports = ViewReport.of(bundle.readout.checks, encoded.tokens)
        looked = [
            (view, encoded[number], report)
            for number, (view, report) in enumerate(zip(views, reports, strict=True))
        ]
    looked = [
        look(bundle, radiograph) if seen[2].negative else seen
        for radiograph, seen in zip(radiographs, looked, strict=True)
    ]
    layers, _ = _passes(bundle, Encoded.cat([one for _, one, _ in looked]), seed, attention=False)
    features, widths = _joined(layers)
    return [
        Observation(radiograph, view, one, features[:, number : number + 1], widths, seed, report)
        for number, (radiograph, (view, one, report)) in enumerate(zip(radiographs, looked, strict=True))
    ]


def with_attention(bundle: ModelBundle, observation: Observation) -> Observation:
    """The observation with its attention; where that is missing, at the price of the denoiser's passes."""
    if observation.attention:
        return observation
    _, maps = _passes(bundle, observation.encoded, observation.seed, attention=True)
    return replace(observation, attention=maps)


def look(bundle: ModelBundle, radiograph: Radiograph) -> tuple[ModelView, Encoded, ViewReport]:
    """The view, what encoder and autoencoder make of it, and the checks; of a negative, as its negative."""
    view, encoded, report = _encoded(bundle, radiograph)
    if report.negative:
        other = _encoded(bundle, radiograph, negative=True)
        if not other[2].negative:  # what is a negative both ways is neither
            return (*other[:2], replace(other[2], negative=True))
    return view, encoded, replace(report, negative=False)


def _encoded(
    bundle: ModelBundle, radiograph: Radiograph, negative: bool = False
) -> tuple[ModelView, Encoded, ViewReport]:
    view = radiograph.model_view(bundle.size, negative)
    with inference(bundle.device):
        encoded = Encoded.of(view.pixels.to(bundle.device), bundle.encoder, bundle.autoencoder)
        return view, encoded, ViewReport.of(bundle.readout.checks, encoded.tokens)[0]


def _joined(layers: list[list[torch.Tensor]]) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Features `(times, B, width, h, w)` of all layers, and how wide each layer is."""
    features = torch.stack([torch.cat(found, dim=1) for found in layers])
    return features, tuple(layer.shape[1] for layer in layers[0])


def _passes(
    bundle: ModelBundle,
    encoded: Encoded,
    seed: int,
    attention: bool,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[list[list[torch.Tensor]], tuple[AttentionMap, ...]]:
    """Features, a list of layers for each noise level, and attention."""
    layers, times = tuple(bundle.readout.config.layers), bundle.readout.config.times
    capture = capture_attention(bundle.denoiser.unet, kind="self", device=None)
    features: list[list[torch.Tensor]] = []
    with inference(bundle.device), capture if attention else nullcontext(()) as maps:
        for number, time in enumerate(times):
            noise = torch.Generator().manual_seed(seed * 1009 + number)
            found = layer_features(bundle.denoiser, encoded, layers, time, noise)
            features.append([layer.float() for layer in found])
            if callback is not None:
                callback(number + 1, len(times))
    return features, tuple(maps)
