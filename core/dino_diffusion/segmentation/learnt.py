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
from dino_diffusion.segmentation.descriptors import Descriptors, describe
from dino_diffusion.segmentation.edge_pull import pulled
from dino_diffusion.segmentation.embedding import SegmentEmbedding, check_together
from dino_diffusion.segmentation.examples import keep_parts
from dino_diffusion.segmentation.lungs import BLEED
from dino_diffusion.segmentation.observation import Observation
from dino_diffusion.segmentation.refine import guided_upsample
from dino_diffusion.view import ModelView
from dino_diffusion.view_report import PROPER, ViewReport

RADIUS = 2
"""Radius of the guided filter in model pixels: half a finer cell. A whole one serves lungs no better and
costs a perfect answer for a clavicle up to a tenth of its Dice."""

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
    return segment_described(bundle, observation, describe(bundle, observation), embeddings)


def segment_described(
    bundle: ModelBundle,
    observation: Observation,
    seen: Descriptors,
    embeddings: Sequence[SegmentEmbedding],
) -> LearntSegmentation:
    """`segment_with` from descriptors that are there already, for who applies many embeddings one by one."""
    if not embeddings:
        raise EmbeddingError("There is no segment embedding to apply; name one that was learnt.")
    check_together(tuple(embeddings))
    for embedding in embeddings:
        embedding.check(bundle)
    radiograph, view = observation.radiograph, observation.view
    with inference(bundle.device):
        votes = [embedding.probabilities(seen) for embedding in embeddings]
        doubts = torch.cat([1 - (2 * vote[:, :1] - 1).abs() for vote in votes], dim=1).cpu()
        refined = [_refined(vote, view, embedding) for vote, embedding in zip(votes, embeddings, strict=True)]
    labels = _winners(view, embeddings, refined)
    areas = [float(2 * (1 - vote[:, 0]).sum()) for vote in votes]
    uncertainties = {
        name: float(np.clip(float(doubt.sum()) / max(area, 1e-6), 0, 1))
        for name, doubt, area in zip(_names(embeddings), doubts[0], areas, strict=True)
    }
    segments = {learnt.segment.value: learnt.segment for e in embeddings for learnt in e.segments}
    names = {value: segment.name for value, segment in segments.items()}
    missing = [name for value, name in names.items() if not (labels == value).any()]
    said = [f"'{name}' was not found; look at the picture." for name in missing]
    return LearntSegmentation(
        Labelmap(labels, radiograph, names, segments),
        uncertainties,
        view.to_source(doubts.amax(1, keepdim=True))[0, 0].numpy(),
        observation.report,
        (*observation.report.warnings, *said),
    )


def _refined(vote: torch.Tensor, view: ModelView, embedding: SegmentEmbedding) -> np.ndarray:
    """Probabilities `(1, labels + 1, h, w)` to `(labels + 1, S, S)`: cut where edges draw a label's outline,
    elsewhere as the guided filter leaves them."""
    pulls = torch.tensor(embedding.pulls)
    labels = pulled(vote[0, 1:], view.pixels[0], pulls.tolist(), view.square.size)
    if (pulls == 0).any():
        even = vote[:, 1:][:, pulls == 0]
        labels[pulls == 0] = guided_upsample(even, view.pixels.to(vote.device), RADIUS)[0].cpu()
    labels = labels / labels.sum(0).clamp_min(1)
    return torch.cat([1 - labels.sum(0, keepdim=True), labels]).numpy()


def _winners(
    view: ModelView, embeddings: Sequence[SegmentEmbedding], refined: Sequence[np.ndarray]
) -> np.ndarray:
    """`(H, W)` labels from each embedding's probabilities `(labels + 1, S, S)` over the view."""
    shape = view.square.height, view.square.width
    best, labels = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    for embedding, maps in zip(embeddings, refined, strict=True):
        kept = torch.from_numpy(_kept(embedding, maps))[None]
        on_source = view.to_source(kept)[0].numpy()
        claimed = on_source.sum(0) > 0.5
        for value, probability in zip(embedding.values, on_source, strict=True):
            ahead = claimed & (probability > best)
            labels[ahead] = value
            best[ahead] = probability[ahead]
    return labels


def _kept(embedding: SegmentEmbedding, maps: np.ndarray) -> np.ndarray:
    """Probabilities `(labels, S, S)`: zero away from the parts that stay, HOLE where a hole is filled."""
    winner = np.where(maps[1:].sum(0) > 0.5, maps[1:].argmax(0), -1)
    kept = np.zeros_like(maps[1:])
    for index, learnt in enumerate(embedding.segments):
        region = winner == index
        parts = keep_parts(region, learnt.parts, learnt.filled)
        near = ndimage.binary_dilation(parts, iterations=BLEED)
        kept[index] = np.where(parts & (winner < 0), HOLE, maps[1 + index] * near)
    return kept


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
