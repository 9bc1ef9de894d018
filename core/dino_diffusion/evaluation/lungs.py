"""A bundle's answer to a file, lying as the file does: what `evaluate_segmentation` asks for."""

from __future__ import annotations

from pathlib import Path

from dino_diffusion.evaluation.labelfiles import Spacing
from dino_diffusion.evaluation.segmentation import Prediction
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph


def label_file(bundle: ModelBundle, path: Path) -> Prediction:
    """Lung labels of a file, lying as the file does, which need not be upright: so does its mask."""
    from dino_diffusion.segmentation.lungs import segment_lungs

    found = segment_lungs(bundle, Radiograph.read(path.resolve()))
    grid = found.labelmap.radiograph.source.grid
    return Prediction(grid.stored_plane(found.labelmap.labels), found.uncertainty, found.warnings)


def spacing_of(path: Path) -> Spacing | None:
    """Row and column spacing of a file in mm, lying as the file does."""
    radiograph = Radiograph.read(path.resolve())
    spacing = radiograph.spacing_mm
    return spacing[::-1] if spacing and radiograph.source.grid.transpose else spacing
