"""The pictures that examples are shown in: as they are, and in copies that are altered with their masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dino_diffusion.alterations import draw_alteration
from dino_diffusion.crop import cut, frame_of
from dino_diffusion.models import ModelBundle
from dino_diffusion.segmentation.close_up import CloseUp
from dino_diffusion.segmentation.descriptors import Descriptors, describe_views, features_of
from dino_diffusion.segmentation.sights import chest_of, close_side, describe_closely, shares_of
from dino_diffusion.view import resize

PICTURES, WITHOUT, FEWEST = 24, 8, 4
"""Pictures to learn from, altered copies included, of examples that show a structure and of those without;
and the fewest an example is shown in."""

AT_ONCE = 4

DETAIL = 4
"""Side of the pictures that close-ups are cut from, in sides of the model's view."""


@dataclass(frozen=True)
class Shown:
    """`pictures` (N, 1, s, s), the examples as they are first; `targets` (N, labels + 1, s, s), background
    first, shares of each pixel."""

    pictures: torch.Tensor
    targets: torch.Tensor
    descriptors: Descriptors


@dataclass(frozen=True)
class Original:
    """`picture` (1, 1, D, D) and `target` (1, labels + 1, D, D) over the padded square of a file of
    `source_side` pixels."""

    picture: torch.Tensor
    target: torch.Tensor
    source_side: int

    @property
    def shows(self) -> bool:
        """Whether there is anything to learn in it."""
        return bool(self.target[:, 1:].any())


def pictures_of(shows: Sequence[bool]) -> list[int]:
    """How many pictures each example is shown in; `shows`: whether there is anything to learn in it."""
    some = sum(shows)
    each = {True: PICTURES // max(1, some), False: WITHOUT // max(1, len(shows) - some)}
    return [max(FEWEST, each[one]) for one in shows]


def batches_of(shows: Sequence[bool]) -> int:
    """How many batches `show` tells of."""
    return math.ceil(sum(pictures_of(shows)) / AT_ONCE)


def show(
    bundle: ModelBundle,
    examples: Sequence[Original],
    close_up: CloseUp | None,
    seed: int,
    tell: Callable[[int], None],
) -> Shown:
    """The examples and their copies; model views or, with a close-up, that part of more detailed pictures.

    `tell` gets the number of the batch that is done; what it raises ends it.
    """
    rng, shows = np.random.default_rng(seed), [example.shows for example in examples]
    queue = [(example, example.picture, example.target, close_up) for example in examples]
    copies = [
        example for example, times in zip(examples, pictures_of(shows), strict=True) for _ in range(times - 1)
    ]
    done = []
    for number in range(batches_of(shows)):
        batch, queue = queue[:AT_ONCE], queue[AT_ONCE:]
        while len(batch) < AT_ONCE and copies:
            batch.append(_altered(copies.pop(0), close_up, rng))
        done.append(_seen(bundle, batch, seed + number))
        tell(number + 1)
    return Shown(
        torch.cat([each.pictures for each in done]),
        torch.cat([each.targets for each in done]),
        Descriptors.joined([each.descriptors for each in done]),
    )


Queued = tuple[Original, torch.Tensor, torch.Tensor, CloseUp | None]


def _altered(original: Original, close_up: CloseUp | None, rng: np.random.Generator) -> Queued:
    alteration = draw_alteration(rng)
    labels = alteration.labels(original.target[:, 1:])
    target = torch.cat([(1 - labels.sum(1, keepdim=True)).clamp_min(0), labels], dim=1)
    return original, alteration.picture(original.picture), target, close_up and close_up.astray(rng)


def _seen(bundle: ModelBundle, batch: Sequence[Queued], seed: int) -> Shown:
    pictures = torch.cat([picture for _, picture, _, _ in batch])
    wanted = torch.cat([target for _, _, target, _ in batch])
    close_ups = [close_up for *_, close_up in batch if close_up]
    if not close_ups:
        return Shown(pictures, wanted, describe_views(bundle, pictures, seed))
    features, _ = features_of(bundle, resize(pictures, bundle.size), seed)
    chests, side, size = chest_of(bundle, features), pictures.shape[-1], close_side(bundle)
    boxes = [close_up.box(chests[number], side) for number, close_up in enumerate(close_ups)]
    frames = [
        frame_of(box.scaled(original.source_side / side), original.source_side, size).numbers()
        for box, (original, *_) in zip(boxes, batch, strict=True)
    ]
    parts, targets = (
        torch.cat([cut(each, box, size) for each, box in zip(maps.split(1), boxes, strict=True)])
        for maps in (pictures, wanted)
    )
    seen = describe_closely(bundle, parts, torch.tensor(frames), shares_of(boxes, side), chests, seed)
    return Shown(parts, targets, seen)
