"""`lungs`: right and left lung, or their zones, with learnt segments over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dino_diffusion.codes import LUNG_NAMES
from dino_diffusion.radiograph import Labelmap, Radiograph
from dino_diffusion.segmentation.embedding import SegmentEmbedding
from dino_diffusion.segmentation.learnt import LearntSegmentation, segment_with
from dino_diffusion.segmentation.zones import zoned
from monailabel_app.lib.configs.options import flag, names
from monailabel_app.lib.embeddings import Embeddings
from monailabel_app.lib.engine import Engine
from monailabel_app.lib.infers.task import SEGMENTATION, Request, Settings, Task
from monailabel_app.lib.results import described, write_labels
from monailabel_app.progress import report

ABOUT = (
    "Right and left lung without any label; zones are thirds of a lung field's height, no lobes, because "
    "these overlap on a frontal film"
)


class Lungs(Task):
    """Labels 1 and 2, with `zones` 3-8 instead, and from 16 on what `embeddings` names."""

    options = (flag("zones"), names("embeddings", "names of learnt segments with commas between them"))

    def __init__(self, engine: Engine, embeddings: Embeddings) -> None:
        labels = {name: value for value, name in LUNG_NAMES.items()}
        super().__init__(engine, SEGMENTATION, labels, ABOUT)
        self.embeddings = embeddings

    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """See Task."""
        learnt = [self.embeddings.open(name) for name in dict.fromkeys(settings["embeddings"])]
        found = self.engine.lungs(radiograph)
        labelmap, warnings = found.labelmap, list(found.warnings)
        if settings["zones"]:
            labelmap = zoned(labelmap)
        uncertainty, each = found.uncertainty, {"lungs": found.uncertainty}
        if learnt:
            more = self.apply(radiograph, learnt)
            labelmap = over(more.labelmap, labelmap)
            warnings += [warning for warning in more.warnings if warning not in warnings]
            each |= more.uncertainties
            uncertainty = max(uncertainty, more.uncertainty)
        report(0.9, "Writing the labels")
        params = described(labelmap) | {"uncertainty": uncertainty, "uncertainties": each}
        params |= {"warnings": warnings}
        params |= asdict(found.view)
        return write_labels(labelmap, request), params

    def apply(self, radiograph: Radiograph, learnt: Sequence[SegmentEmbedding]) -> LearntSegmentation:
        """Learnt segments on the image."""
        return segment_with(self.engine.bundle, self.engine.observe(radiograph), learnt)


def over(upper: Labelmap, lower: Labelmap) -> Labelmap:
    """Both on one grid; where both say something, what a person taught counts more."""
    labels = upper.labels.copy()
    labels[labels == 0] = lower.labels[labels == 0]
    return Labelmap(labels, upper.radiograph, lower.names | upper.names, lower.segments | upper.segments)
