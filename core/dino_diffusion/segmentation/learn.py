"""A structure learnt from one corrected example, or a few, against the frozen bundle.

Each example is shown as it is and in altered copies (turned, zoomed, squashed, darker), its mask
altered alike; a light head learns to read the mask from the bundle's descriptors. Being taught again adds a
head, and heads vote by how many examples each has seen: nothing of earlier images has to be kept for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch.nn import functional

from dino_diffusion.codes import SEGMENTS, segment_of, structure_of
from dino_diffusion.errors import EmbeddingError
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.close_up import CloseUp
from dino_diffusion.segmentation.descriptors import FINE
from dino_diffusion.segmentation.embedding import LearntSegment, Lesson, SegmentEmbedding
from dino_diffusion.segmentation.examples import has_holes, labels_in, parts_of, targets_of
from dino_diffusion.segmentation.heads import STEPS, train_head
from dino_diffusion.segmentation.observation import observe
from dino_diffusion.segmentation.outline_cues import recovered
from dino_diffusion.segmentation.shown import DETAIL, Original, batches_of, show
from dino_diffusion.segmentation.sights import chest_of
from dino_diffusion.view import ModelView

Example = tuple[Radiograph, np.ndarray]
"""A radiograph and label values `(H, W)` on its grid."""

KEPT = 0.5
"""Least share of a further example's structure that must lie where the earlier ones had theirs."""


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
        examples: at least one; a label that a mask lacks is taken to be absent from that picture. Beside an
            example that shows something, an empty mask says that there is nothing.
        name: of the structure; of several labels, each is called after it and its value, or as `names` says.
            A name such as "left clavicle" also gives the standard code.
        labels: which of the masks' labels; None for all of them. The rest counts as background.
        start: what was learnt before, to be refined; its labels, names and colours stay.
        callback: called with (done, total) after every step; may raise Cancelled.

    Raises:
        EmbeddingError: all masks are empty, one lies on another grid, holds no labels or other ones than
            `start`, or a small structure lies elsewhere in the chest than that of `start`.
    """
    if not examples:
        raise EmbeddingError("There is no example to learn from; give an image and its mask.")
    if start is not None:
        start.check(bundle)
    values = _values(examples, labels, start)
    total, batches = steps_of(examples), batches_of(_shows(examples))

    def tell(done: int) -> None:
        if callback is not None:
            callback(done, total)

    originals, close_up = _originals(bundle, examples, values, start)
    lessons = show(bundle, originals, close_up, seed, tell)
    cells = functional.avg_pool2d(lessons.targets, FINE).to(bundle.device)
    head = train_head(lessons.descriptors, cells, len(examples), seed, lambda step: tell(batches + step))
    head.recovered.copy_(recovered(lessons.targets[: len(examples)], lessons.pictures[: len(examples)]))
    # Half precision at once: what is used now is what will be read from the file.
    weights = {key: value.cpu().half() for key, value in head.state_dict().items()}
    lesson = Lesson(weights, tuple(radiograph.source.sha256 for radiograph, _ in examples))
    learnt = _segments(examples, values, name, names or {}, start)
    before = start.lessons if start is not None else ()
    return SegmentEmbedding(name, learnt, (*before, lesson), bundle.observing_id, close_up)


def steps_of(examples: Sequence[Example]) -> int:
    """How many steps the callback of `learn` hears of."""
    return batches_of(_shows(examples)) + STEPS


def _shows(examples: Sequence[Example]) -> list[bool]:
    return [bool(mask.any()) for _, mask in examples]


def _originals(
    bundle: ModelBundle,
    examples: Sequence[Example],
    values: tuple[int, ...],
    start: SegmentEmbedding | None,
) -> tuple[list[Original], CloseUp | None]:
    """The examples as they are to be shown, and the part to show of them, None for the whole."""
    names = [radiograph.source.name for radiograph, _ in examples]
    observations = [observe(bundle, radiograph) for radiograph, _ in examples]
    targets = [
        targets_of(mask, observation.view, values, name)
        for (_, mask), observation, name in zip(examples, observations, names, strict=True)
    ]
    covered = [target[0, 1:].sum(0) for target in targets]
    # Half of the most, not of all: a wire fills no cell.
    structures = [(shares > shares.max() / 2).numpy() for shares in covered]
    chests = [chest_of(bundle, observation.features) for observation in observations]
    close_up = start.close_up if start is not None else CloseUp.around(structures, chests)
    if close_up is None:
        return [
            Original(observation.view.pixels, target, observation.view.square.side)
            for observation, target in zip(observations, targets, strict=True)
        ], None
    for structure, chest, name in zip(structures, chests, names, strict=True):
        box = close_up.box(chest, bundle.size)
        inside = structure[box.top : box.top + box.side, box.left : box.left + box.side]
        if inside.sum() < KEPT * structure.sum():
            raise EmbeddingError(
                f"{name}: the structure lies elsewhere in the chest than in the examples that were taught "
                "before; learn it anew from all of them at once."
            )
    originals = []
    for (radiograph, mask), observation, name in zip(examples, observations, names, strict=True):
        square = observation.view.square.resized(DETAIL * bundle.size)
        pixels = square.to_model(observation.view.scale.apply(radiograph.pixels))
        detailed = ModelView(pixels, square, observation.view.scale)
        originals.append(Original(pixels, targets_of(mask, detailed, values, name), square.side))
    return originals, close_up


def _values(
    examples: Sequence[Example], labels: Sequence[int] | None, start: SegmentEmbedding | None
) -> tuple[int, ...]:
    """The labels to teach, in the order of the heads' answers."""
    held = [labels_in(mask, radiograph) for radiograph, mask in examples]
    found = sorted({value for values in held for value in values})
    if not found:
        raise EmbeddingError(
            f"{examples[0][0].source.name}: the mask is empty; draw the structure with a value above 0."
            if start is None
            else f"The masks are empty, and pictures without '{start.name}' teach only beside one that shows "
            "it; learn it anew from all of them at once."
        )
    chosen = sorted(set(found if labels is None else labels))
    if missing := [value for value in chosen if value not in found]:
        raise EmbeddingError(
            f"No mask holds the label {missing[0]}; they hold {_listed(found)}: choose among "
            "these with --label."
        )
    for values, (radiograph, _) in zip(held, examples, strict=True):
        if values and not set(values) & set(chosen):
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
