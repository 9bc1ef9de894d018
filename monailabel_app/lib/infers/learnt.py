"""`segment_<name>`: one learnt segment, in the version that is in use."""

from __future__ import annotations

from pathlib import Path

from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.learnt import segment_with
from monailabel_app.lib.embeddings import Embeddings, Learnt, slug_of
from monailabel_app.lib.engine import Engine
from monailabel_app.lib.infers.task import SEGMENTATION, Request, Settings, Task
from monailabel_app.lib.results import described, write_labels
from monailabel_app.progress import report


class LearntSegmentTask(Task):
    """Finds what submitted labels taught."""

    def __init__(self, engine: Engine, embeddings: Embeddings, learnt: Learnt) -> None:
        about = f"'{learnt.name}' as learnt from submitted labels"
        super().__init__(engine, SEGMENTATION, {learnt.name: learnt.value}, about)
        self.embeddings, self.name = embeddings, learnt.name

    def is_valid(self) -> bool:
        """Not where it was learnt for another model, or where somebody removed it."""
        known = self.embeddings.all().get(slug_of(self.name))
        return known is not None and self.embeddings.fits(known)

    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """See Task."""
        version = self.embeddings.get(self.name).active
        embedding = self.embeddings.open(self.name, version)
        found = segment_with(self.engine.bundle, self.engine.observe(radiograph), [embedding])
        report(0.9, "Writing the labels")
        params = described(found.labelmap) | {
            "uncertainty": found.uncertainty,
            "warnings": list(found.warnings),
            "version": version,
        }
        return write_labels(found.labelmap, request), params
