"""Which submitted labels a segment is learnt from, and which are kept back to judge what was learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from skimage.measure import block_reduce

from dino_diffusion.evaluation.overlap import mean_dice, structures_of
from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.embedding import SegmentEmbedding
from dino_diffusion.segmentation.learn import Example
from dino_diffusion.segmentation.learnt import segment_seen
from dino_diffusion.segmentation.observation import observe
from dino_diffusion.segmentation.sights import Sights
from monailabel_app.lib.embeddings import Learnt
from monailabel_app.lib.engine import image_file
from monailabel_app.lib.errors import RequestError
from monailabel_app.lib.labels import StoredLabel

MOST_LESSONS, MOST_CHECKS = 24, 8

FIRST_CHECK, EVERY = 2, 4
"""Of the images in the order in which they were seen, the third is the first to be kept back, then each
fourth."""

LEARNING_SIDE = 1024
"""Images are learnt from at no more than this, four times the model's own size, so that two dozen fit."""

Read = Callable[[StoredLabel], Example | None]


def divide(
    learnt: Learnt, labels: Sequence[StoredLabel], read: Read
) -> tuple[dict[str, Example], list[StoredLabel]]:
    """Examples to learn from, by image, and labels to judge by; the newest of each, a bounded number.

    `labels`: the oldest first. Once kept back, an image is so for every later version, so that all are judged
    by what none has seen; new ones are noted in `learnt`. `read` gives None for a label that says nothing of
    the segment.
    """
    lessons: dict[str, Example] = {}
    checks: list[StoredLabel] = []
    for label in reversed(labels):
        is_new = label.image not in learnt.seen
        is_check = len(learnt.seen) % EVERY == FIRST_CHECK if is_new else label.image in learnt.checks
        if len(checks if is_check else lessons) >= (MOST_CHECKS if is_check else MOST_LESSONS):
            continue
        if label.image in lessons or any(check.image == label.image for check in checks):
            continue  # another layer of the same image
        if (found := read(label)) is None:
            continue
        if is_new:
            learnt.seen.append(label.image)
        if is_check:
            learnt.checks += [label.image] * is_new
            checks.append(label)
        else:
            lessons[label.image] = smaller(found)
    return lessons, checks


def chosen(labels: Sequence[StoredLabel], wanted: Sequence[str]) -> list[StoredLabel]:
    """Those of certain images, or all. Raises RequestError for an image without one."""
    if not wanted:
        return list(labels)
    known = {label.image for label in labels}
    if missing := [image for image in wanted if image not in known]:
        raise RequestError(f"Image '{missing[0][:80]}' has no submitted label; submit one, or leave it out.")
    return [label for label in labels if label.image in wanted]


def example(label: StoredLabel, names: Sequence[str], value: int, image: Path) -> Example | None:
    """The radiograph and a mask that holds `value` where its label says the first of `names` that it knows,
    an empty one where one of them is said to be absent; None where nothing is said of them."""
    own = next((found for name in names if (found := label.value_of(name)) is not None), None)
    lacks = any(label.lacks(name) for name in names)
    if own is None and not lacks:
        return None
    radiograph = Radiograph.read(image_file(image))
    mask = np.where(read_labels(label.path, radiograph) == own, value, 0).astype(np.uint8)
    return (radiograph, mask) if mask.any() or lacks else None


def smaller(pair: Example) -> Example:
    """The example at LEARNING_SIDE or less; it keeps the image's hash."""
    radiograph, mask = pair
    factor = -(-max(radiograph.shape) // LEARNING_SIDE)
    if factor == 1:
        return pair
    grey = block_reduce(radiograph.pixels, factor, np.mean).astype(np.float32)
    reduced = Radiograph.from_array(grey, name=radiograph.source.name)
    source = replace(reduced.source, sha256=radiograph.source.sha256)
    return replace(reduced, source=source), block_reduce(mask, factor, np.max)


def agreement(
    bundle: ModelBundle,
    embeddings: Sequence[SegmentEmbedding],
    checks: Iterable[Example],
    value: int,
    callback: Callable[[int, int], None],
) -> list[float]:
    """Mean Dice of each embedding over the examples; the callback hears of every denoiser pass."""
    scores = []
    for radiograph, mask in checks:
        observation = observe(bundle, radiograph, callback=callback)
        sights = Sights(bundle, observation)
        found = [segment_seen(sights, [each]).labelmap.labels for each in embeddings]
        scores.append([mean_dice(labels, mask, structures_of([value])) for labels in found])
    return [float(score) for score in np.mean(scores, axis=0)]
