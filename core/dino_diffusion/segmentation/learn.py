"""A structure learnt from one corrected example, or a few, against the frozen bundle.

Each example is shown as it is and in altered copies (turned, zoomed, squashed, darker), its mask
altered alike; a light head learns to read the mask from the bundle's descriptors. Being taught again adds a
head, and heads vote by how many examples each has seen: nothing of earlier images has to be kept for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.alterations import draw_alteration
from dino_diffusion.codes import SEGMENTS, segment_of, structure_of
from dino_diffusion.errors import EmbeddingError
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.descriptors import FINE, Descriptors, describe_views
from dino_diffusion.segmentation.edge_pull import recovered
from dino_diffusion.segmentation.embedding import LearntSegment, Lesson, SegmentEmbedding
from dino_diffusion.segmentation.examples import has_holes, labels_in, parts_of, targets_of
from dino_diffusion.segmentation.heads import STEPS, train_head
from dino_diffusion.segmentation.observation import look

Example = tuple[Radiograph, np.ndarray]
"""A radiograph and label values `(H, W)` on its grid."""

PICTURES, FEWEST = 24, 4
"""Pictures to learn from, altered copies included, and the fewest an example is shown in."""

AT_ONCE = 4


def learn(
    bundle: ModelBundle,
    examples: Sequence[Example],
    name: str,
    labels: Sequence[int] | None = None,
    start: SegmentEmbedding | None = None,
    callback: Callable[[int, int], None] | None = None,
    names: Mapping[int, str] | None = None,
    seed: int = 0,
) -> SegmentEmbedding:
    """Learn the labels of the examples' masks, all together with the background.

    Args:
        examples: at least one; a label that a mask lacks is taken to be absent from that picture.
        name: of the structure; of several labels, each is called after it and its value, or as `names` says.
            A name such as "left clavicle" also gives the standard code.
        labels: which of the masks' labels; None for all of them. The rest counts as background.
        start: what was learnt before, to be refined; its labels, names and colours stay.
        callback: called with (done, total) after every step; may raise Cancelled.

    Raises:
        EmbeddingError: a mask is empty, lies on another grid, holds no labels or other ones than `start`.
    """
    if not examples:
        raise EmbeddingError("There is no example to learn from; give an image and its mask.")
    if start is not None:
        start.check(bundle)
    values = _values(examples, labels, start)
    views = [look(bundle, radiograph)[0] for radiograph, _ in examples]
    targets = [
        targets_of(mask, view, values, radiograph.source.name)
        for (radiograph, mask), view in zip(examples, views, strict=True)
    ]
    pictures, wanted = shown(torch.cat([view.pixels for view in views]), torch.cat(targets), seed)
    batches = pictures.split(AT_ONCE)
    total = steps_of(len(examples))

    def tell(done: int) -> None:
        if callback is not None:
            callback(done, total)

    seen = []
    for number, batch in enumerate(batches):
        seen.append(describe_views(bundle, batch, seed + number))
        tell(number + 1)
    cells = functional.avg_pool2d(wanted, FINE).to(bundle.device)
    lessons = Descriptors.joined(seen)
    head = train_head(lessons, cells, len(examples), seed, lambda step: tell(len(batches) + step))
    head.recovered.copy_(recovered(wanted[: len(examples)], pictures[: len(examples)]))
    # Half precision at once: what is used now is what will be read from the file.
    weights = {key: value.cpu().half() for key, value in head.state_dict().items()}
    lesson = Lesson(weights, tuple(radiograph.source.sha256 for radiograph, _ in examples))
    learnt = _segments(examples, values, name, names or {}, start)
    before = start.lessons if start is not None else ()
    return SegmentEmbedding(name, learnt, (*before, lesson), bundle.observing_id)


def steps_of(examples: int) -> int:
    """How many steps the callback of `learn` hears of."""
    return math.ceil(examples * _shown_each(examples) / AT_ONCE) + STEPS


def _shown_each(examples: int) -> int:
    return max(FEWEST, PICTURES // examples)


def shown(pixels: torch.Tensor, targets: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views `(N, 1, S, S)` and targets `(N, K, S, S)`, then altered copies of them."""
    rng = np.random.default_rng(seed)
    copies = _shown_each(len(pixels)) - 1
    pictures, wanted = [pixels], [targets]
    for picture, target in zip(pixels.split(1), targets.split(1), strict=True):
        for _ in range(copies):
            alteration = draw_alteration(rng)
            pictures.append(alteration.picture(picture))
            moved = alteration.labels(target[:, 1:])
            wanted.append(torch.cat([(1 - moved.sum(1, keepdim=True)).clamp_min(0), moved], dim=1))
    return torch.cat(pictures), torch.cat(wanted)


def _values(
    examples: Sequence[Example], labels: Sequence[int] | None, start: SegmentEmbedding | None
) -> tuple[int, ...]:
    """The labels to teach, in the order of the heads' answers."""
    held = [labels_in(mask, radiograph) for radiograph, mask in examples]
    found = sorted({value for values in held for value in values})
    chosen = sorted(set(found if labels is None else labels))
    if missing := [value for value in chosen if value not in found]:
        raise EmbeddingError(
            f"No mask holds the label {missing[0]}; they hold {_listed(found)}: choose among "
            "these with --label."
        )
    for values, (radiograph, _) in zip(held, examples, strict=True):
        if not set(values) & set(chosen):
            raise EmbeddingError(
                f"{radiograph.source.name}: the mask holds {_listed(values)}, none of the labels to learn "
                f"({_listed(chosen)}); leave it out, or correct its values."
            )
    if start is None:
        return tuple(chosen)
    if unknown := [value for value in chosen if value not in start.values]:
        raise EmbeddingError(
            f"'{start.name}' knows the labels {_listed(sorted(start.values))}, not {unknown[0]}; choose "
            "among its own with --label, or learn anew."
        )
    return start.values


def _segments(
    examples: Sequence[Example],
    values: tuple[int, ...],
    name: str,
    names: Mapping[int, str],
    start: SegmentEmbedding | None,
) -> tuple[LearntSegment, ...]:
    """What the labels are called, and how many parts they have in the examples of now and before.

    Several labels without names that the package knows, such as both lungs or the zones, keep its names.
    """
    described = []
    package = len(values) > 1 and all(value in SEGMENTS for value in values)
    for number, value in enumerate(values):
        regions = [region for _, mask in examples if (region := mask == value).any()]
        parts = max((parts_of(region) for region in regions), default=1)
        filled = not any(has_holes(region) for region in regions)
        if start is not None:
            before = start.segments[number]
            described.append(replace(before, parts=max(parts, before.parts), filled=filled and before.filled))
            continue
        segment = segment_of(value)
        if called := names.get(value) or (
            name if len(values) == 1 else None if package else f"{name} {value}"
        ):
            kind, laterality = structure_of(called)
            segment = replace(segment, name=called, mark=str(value), kind=kind, laterality=laterality)
        described.append(LearntSegment(segment, min(parts, 255), filled))
    return tuple(described)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)
