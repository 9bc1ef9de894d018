"""What learnt segments look at on a radiograph: the whole view, or a part of it that is seen larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from dino_diffusion.crop import Box, Window
from dino_diffusion.device import inference
from dino_diffusion.models import ModelBundle
from dino_diffusion.segmentation.chest_frame import ChestFrame, cell_centres
from dino_diffusion.segmentation.close_up import CloseUp
from dino_diffusion.segmentation.descriptors import FINE, KNOWN, Descriptors, describe, described, found_lungs
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.segmentation.observation import Observation

CLOSE, STEP = 0.625, 32
"""Side of a picture that is looked at closely, in sides of the model's view (measured: 0.75 and 1 show no
more), and what it is a multiple of in pixels, so that the denoiser can halve it."""


class View(Protocol):
    """`pixels` (1, 1, s, s) in [0, 1] and the way from maps over them to the radiograph's own grid."""

    @property
    def pixels(self) -> torch.Tensor: ...

    def to_source(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, C, h, w)`, any resolution, to `(B, C, H, W)`."""
        ...


@dataclass(frozen=True)
class CloseView:
    """A part of a radiograph. Beyond it, maps are zero on the radiograph's grid."""

    pixels: torch.Tensor
    window: Window

    def to_source(self, maps: torch.Tensor) -> torch.Tensor:
        """As in `View`."""
        square = self.window.square
        whole = torch.zeros(*maps.shape[:2], square.height, square.width)
        whole[(..., *self.window.region)] = torch.from_numpy(self.window.to_source(maps))
        return whole


@dataclass(frozen=True)
class Sight:
    """A view and what is said of its places."""

    view: View
    descriptors: Descriptors


class Sights:
    """Of one radiograph; each is looked at once, however many embeddings ask for it."""

    def __init__(self, bundle: ModelBundle, observation: Observation) -> None:
        self.bundle, self.observation = bundle, observation
        self._seen: dict[CloseUp | None, Sight] = {}

    def of(self, close_up: CloseUp | None) -> Sight:
        """The close-up's part, for one denoiser pass more; the whole view for None."""
        if close_up not in self._seen:
            self._seen[close_up] = self._closer(close_up) if close_up else self._whole()
        return self._seen[close_up]

    def _whole(self) -> Sight:
        return Sight(self.observation.view, describe(self.bundle, self.observation))

    def _closer(self, close_up: CloseUp) -> Sight:
        view = self.observation.view
        chest = chest_of(self.bundle, self.observation.features)
        box = close_up.box(chest, view.square.side)
        window = Window(box, view.square.resized(close_side(self.bundle)), view.scale)
        pixels = window.grey_to_model(self.observation.radiograph.pixels)
        frames, shares = torch.tensor([window.frame.numbers()]), shares_of([box], view.square.side)
        seen = describe_closely(self.bundle, pixels, frames, shares, chest, self.observation.seed)
        return Sight(CloseView(pixels, window), seen)


def shares_of(boxes: Sequence[Box], side: int) -> torch.Tensor:
    """`(B, 3)`: left, top and side of boxes in pictures of `side` pixels, as shares of it."""
    return torch.tensor([[box.left, box.top, box.side] for box in boxes]) / side


def close_side(bundle: ModelBundle) -> int:
    """Side of a picture that is looked at closely, in model pixels."""
    return max(1, round(CLOSE * bundle.size / STEP)) * STEP


def chest_of(bundle: ModelBundle, features: torch.Tensor) -> ChestFrame:
    """From the denoiser's features `(times, B, channels, h, w)` of whole views."""
    return ChestFrame.of(found_lungs(bundle, features)[:, 1:])


def describe_closely(
    bundle: ModelBundle,
    pixels: torch.Tensor,
    frames: torch.Tensor,
    shares: torch.Tensor,
    chests: ChestFrame,
    seed: int = 0,
) -> Descriptors:
    """Of parts `(B, 1, s, s)` of radiographs, at the read-out's last noise level.

    `frames` (B, 6) are the denoiser's; `shares` (B, 3) say where the parts lie (`shares_of`); `chests` belong
    to the whole pictures. Of lungs nothing is known there.
    """
    layers, time = tuple(bundle.readout.config.layers), bundle.readout.config.times[-1]
    with inference(bundle.device):
        encoded = Encoded.of(pixels.to(bundle.device), bundle.encoder, bundle.autoencoder, frames)
        noise = torch.Generator().manual_seed(seed)
        features = denoiser_features(bundle.denoiser, encoded, layers, time, noise).float()[None]
        shares = shares.to(features)
        corner, side = shares[:, None, None, :2], shares[:, None, None, 2:]
        points = (corner + (cell_centres(features.shape[-1]).to(features) + 1) / 2 * side) * 2 - 1
        cells = pixels.shape[-1] // FINE
        known = features.new_zeros(len(pixels), KNOWN, cells, cells)
        known[:, 0] = 1
        area = chests.area * (cells / shares[:, 2]) ** 2
        return described(bundle, features, encoded, pixels, chests.places(points), known, area)
