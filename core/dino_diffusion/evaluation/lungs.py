"""A bundle's answer to a file, lying as the file does: what `evaluate_segmentation` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dino_diffusion.evaluation.labelfiles import Spacing
from dino_diffusion.evaluation.segmentation import Prediction
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph

if TYPE_CHECKING:
    from dino_diffusion.segmentation.embedding import SegmentEmbedding
    from dino_diffusion.segmentation.learnt import LearntSegmentation
    from dino_diffusion.segmentation.lungs import LungSegmentation


def label_file(bundle: ModelBundle, path: Path) -> Prediction:
    """Lung labels of a file, lying as the file does, which need not be upright: so does its mask."""
    from dino_diffusion.segmentation.lungs import segment_lungs

    found = segment_lungs(bundle, Radiograph.read(path.resolve()))
    return prediction_of(found)


def label_file_with(bundle: ModelBundle, embeddings: Sequence[SegmentEmbedding], path: Path) -> Prediction:
    """The same for learnt segments, with their masks' label values."""
    from dino_diffusion.segmentation.learnt import segment_with
    from dino_diffusion.segmentation.observation import observe

    return prediction_of(segment_with(bundle, observe(bundle, Radiograph.read(path.resolve())), embeddings))


def prediction_of(found: LungSegmentation | LearntSegmentation) -> Prediction:
    """A segmentation turned back to lie as its file does."""
    labels = found.labelmap.radiograph.source.grid.stored_plane(found.labelmap.labels)
    return Prediction(labels, found.uncertainty, found.warnings, found.view)


def spacing_of(path: Path) -> Spacing | None:
    """Row and column spacing of a file in mm, lying as the file does."""
    radiograph = Radiograph.read(path.resolve())
    spacing = radiograph.spacing_mm
    return spacing[::-1] if spacing and radiograph.source.grid.transpose else spacing
