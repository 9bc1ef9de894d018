"""What the models make of one radiograph: computed once, read by every way of segmenting it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

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
    """Several with their model views at once, which suits a GPU.

    Each is seen as `observe` sees it alone, but for rounding.
    """

    def negative(number: int) -> ModelView:
        return pictures[number][0].model_view(bundle.size, negative=True)

    looked = look_many(bundle, [view for _, view in pictures], negative)
    features, widths = features_of_many(bundle, looked, seed)
    return [
        Observation(
            radiograph, one.view, one.encoded, features[:, number : number + 1], widths, seed, one.report
        )
        for number, ((radiograph, _), one) in enumerate(zip(pictures, looked, strict=True))
    ]


def with_attention(bundle: ModelBundle, observation: Observation) -> Observation:
    """The observation with its attention; where that is missing, at the price of the denoiser's passes."""
    if observation.attention:
        return observation
    _, maps = _passes(bundle, observation.encoded, observation.seed, attention=True)
    return replace(observation, attention=maps)


class Looked(NamedTuple):
    """A view, what encoder and autoencoder make of it, and what the checks say."""

    view: ModelView
    encoded: Encoded
    report: ViewReport


def look(bundle: ModelBundle, radiograph: Radiograph) -> Looked:
    """At one radiograph; of a negative, at its negative."""

    def negative(_: int) -> ModelView:
        return radiograph.model_view(bundle.size, negative=True)

    return look_many(bundle, [radiograph.model_view(bundle.size)], negative)[0]


def look_many(
    bundle: ModelBundle, views: Sequence[ModelView], negative: Callable[[int], ModelView]
) -> list[Looked]:
    """At several views at once; where view i shows a negative, at `negative(i)` in its place."""

    def right_way(number: int, seen: Looked) -> Looked:
        if seen.report.negative:
            other = _encoded(bundle, [negative(number)])[0]
            if not other.report.negative:  # what is a negative both ways is neither
                return other._replace(report=replace(other.report, negative=True))
        return seen._replace(report=replace(seen.report, negative=False))

    return [right_way(number, seen) for number, seen in enumerate(_encoded(bundle, views))]


def features_of_many(
    bundle: ModelBundle, looked: Sequence[Looked], seed: int = 0
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Features `(times, B, width, h, w)` and widths as in `Observation`, of several looked at together."""
    encoded = Encoded.cat([one.encoded for one in looked])
    return _joined(_passes(bundle, encoded, seed, attention=False)[0])


def _encoded(bundle: ModelBundle, views: Sequence[ModelView]) -> list[Looked]:
    with inference(bundle.device):
        pixels = torch.cat([view.pixels for view in views]).to(bundle.device)
        encoded = Encoded.of(pixels, bundle.encoder, bundle.autoencoder)
        reports = ViewReport.of(bundle.readout.checks, encoded.tokens)
        return [
            Looked(view, encoded[number], report)
            for number, (view, report) in enumerate(zip(views, reports, strict=True))
        ]


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
