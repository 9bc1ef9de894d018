"""Learnt segments on one radiograph: several embeddings at once, each pixel given to one label at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from dino_diffusion.device import inference
from dino_diffusion.errors import EmbeddingError
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Labelmap
from dino_diffusion.segmentation.embedding import SegmentEmbedding, check_together
from dino_diffusion.segmentation.examples import keep_parts
from dino_diffusion.segmentation.lungs import BLEED
from dino_diffusion.segmentation.observation import Observation
from dino_diffusion.segmentation.outline_cues import drawn
from dino_diffusion.segmentation.sights import Sight, Sights
from dino_diffusion.view_report import PROPER, ViewReport

HOLE = 0.51
"""Probability in a hole that is filled: just enough: what another label says there counts more."""


@dataclass(frozen=True)
class LearntSegmentation:
    """Labels on the radiograph's own grid.

    `uncertainties` by name of the embedding, each doubtful area relative to labelled area, in [0, 1];
    `uncertainty` is the highest of them and `uncertainty_map` (H, W) the highest at each place.
    """

    labelmap: Labelmap
    uncertainties: dict[str, float]
    uncertainty_map: np.ndarray
    view: ViewReport = PROPER
    warnings: tuple[str, ...] = ()

    @property
    def uncertainty(self) -> float:
        """Of the least certain embedding."""
        return max(self.uncertainties.values())


def segment_with(
    bundle: ModelBundle, observation: Observation, embeddings: Sequence[SegmentEmbedding]
) -> LearntSegmentation:
    """Label values of the masks that the embeddings were learnt from.

    An embedding claims the pixels where it gives the background less than an even chance. A pixel goes to
    the most probable of the labels of all embeddings that claim it, so nothing overlaps and the order of the
    embeddings does not matter. Of each label as many regions stay as its examples had.
    Raises EmbeddingError for embeddings of another bundle and for two that give the same label value.
    """
    return segment_seen(Sights(bundle, observation), embeddings)


def segment_seen(sights: Sights, embeddings: Sequence[SegmentEmbedding]) -> LearntSegmentation:
    """`segment_with`, for who applies many embeddings to one radiograph one by one."""
    bundle, observation = sights.bundle, sights.observation
    if not embeddings:
        raise EmbeddingError("There is no segment embedding to apply; name one that was learnt.")
    check_together(tuple(embeddings))
    for embedding in embeddings:
        embedding.check(bundle)
    radiograph = observation.radiograph
    with inference(bundle.device):
        answers = [_Answer.of(embedding, sights.of(embedding.close_up)) for embedding in embeddings]
    labels = _winners(radiograph.shape, answers)
    uncertainties = {
        name: answer.uncertainty for name, answer in zip(_names(embeddings), answers, strict=True)
    }
    doubtful = [answer.sight.view.to_source(answer.doubt)[0, 0].numpy() for answer in answers]
    segments = {learnt.segment.value: learnt.segment for e in embeddings for learnt in e.segments}
    names = {value: segment.name for value, segment in segments.items()}
    missing = [name for value, name in names.items() if not (labels == value).any()]
    said = [f"'{name}' was not found; look at the picture." for name in missing]
    return LearntSegmentation(
        Labelmap(labels, radiograph, names, segments),
        uncertainties,
        np.maximum.reduce(doubtful),
        observation.report,
        (*observation.report.warnings, *said),
    )


@dataclass(frozen=True)
class _Answer:
    """What an embedding says of one sight: probabilities `vote` (1, labels + 1, h, w)."""

    embedding: SegmentEmbedding
    sight: Sight
    vote: torch.Tensor

    @classmethod
    def of(cls, embedding: SegmentEmbedding, sight: Sight) -> _Answer:
        return cls(embedding, sight, embedding.probabilities(sight.descriptors).cpu())

    @property
    def doubt(self) -> torch.Tensor:
        """How far each place is from certain, `(1, 1, h, w)` in [0, 1]."""
        return 1 - (2 * self.vote[:, :1] - 1).abs()

    @property
    def uncertainty(self) -> float:
        """Doubtful area relative to labelled area, in [0, 1]."""
        area = float(2 * (1 - self.vote[:, 0]).sum())
        return float(np.clip(float(self.doubt.sum()) / max(area, 1e-6), 0, 1))

    def refined(self) -> np.ndarray:
        """Probabilities `(labels + 1, s, s)` on the view's grid, as the picture draws them."""
        labels = drawn(self.vote[:, 1:], self.sight.view.pixels, self.embedding.cues)[0]
        labels = labels / labels.sum(0).clamp_min(1)
        return torch.cat([1 - labels.sum(0, keepdim=True), labels]).numpy()

    def kept(self) -> np.ndarray:
        """Probabilities `(labels, s, s)`: zero away from the parts that stay, HOLE where a hole is filled."""
        maps = self.refined()
        winner = np.where(maps[1:].sum(0) > 0.5, maps[1:].argmax(0), -1)
        kept = np.zeros_like(maps[1:])
        boxes = ndimage.find_objects(winner + 1, len(kept))
        for index, (learnt, box) in enumerate(zip(self.embedding.segments, boxes, strict=True)):
            if box is None:
                continue
            around = tuple(slice(max(0, side.start - BLEED), side.stop + BLEED) for side in box)
            parts = keep_parts(winner[around] == index, learnt.parts, learnt.filled)
            near = ndimage.binary_dilation(parts, iterations=BLEED)
            kept[index][around] = np.where(parts & (winner[around] < 0), HOLE, maps[1 + index][around] * near)
        return kept


def _winners(shape: tuple[int, int], answers: Sequence[_Answer]) -> np.ndarray:
    """`(H, W)` labels on the radiograph's own grid."""
    best, labels = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    for answer in answers:
        on_source = answer.sight.view.to_source(torch.from_numpy(answer.kept())[None])[0].numpy()
        claimed = on_source.sum(0) > 0.5
        for value, probability in zip(answer.embedding.values, on_source, strict=True):
            ahead = claimed & (probability > best)
            labels[ahead] = value
            best[ahead] = probability[ahead]
    return labels


def _names(embeddings: Sequence[SegmentEmbedding]) -> list[str]:
    """Names, a second one of the same name with its number, so that a dictionary holds all."""
    names: list[str] = []
    for embedding in embeddings:
        number, name = 1, embedding.name
        while name in names:
            number += 1
            name = f"{embedding.name} ({number})"
        names.append(name)
    return names
