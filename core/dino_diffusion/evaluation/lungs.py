"""A bundle's lungs beside reference masks: what `evaluate_segmentation` asks of the files of a radiograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dino_diffusion.evaluation.labelfiles import Spacing
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph


def label_file(bundle: ModelBundle, path: Path) -> np.ndarray:
    """Lung labels of a file, lying as the file does, which need not be upright: so does its mask."""
    from dino_diffusion.segmentation.lungs import segment_lungs

    labelmap = segment_lungs(bundle, Radiograph.read(path.resolve())).labelmap
    return labelmap.radiograph.source.grid.stored_plane(labelmap.labels)


def spacing_of(path: Path) -> Spacing | None:
    """Row and column spacing of a file in mm, lying as the file does."""
    radiograph = Radiograph.read(path.resolve())
    spacing = radiograph.spacing_mm
    return spacing[::-1] if spacing and radiograph.source.grid.transpose else spacing
