"""`twin`: the same chest with healthy lungs, and where the two differ by more than chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from monailabel.interfaces.datastore import Datastore

from dino_diffusion.generation import twin as core
from dino_diffusion.generation.painting import InpaintSettings
from dino_diffusion.pictures import difference_map, save_png
from dino_diffusion.radiograph import Radiograph
from monailabel_app import progress
from monailabel_app.lib.concepts import Concepts
from monailabel_app.lib.configs.options import number, suggested, whole
from monailabel_app.lib.engine import LOOKING, Engine
from monailabel_app.lib.infers import painting
from monailabel_app.lib.infers.masks import MASK_OPTIONS, mask_of
from monailabel_app.lib.infers.task import OTHERS, Request, Settings, Task
from monailabel_app.lib.results import described, image_ending, write_labels
from monailabel_app.progress import report

HEALTHY = "healthy"

LOOKED = 0.1
"""Share of the work that is done when the lungs are found."""


class Twin(Task):
    """Both lungs, or what a mask marks (see `masks`). Several twins tell chance apart; the first is to show.

    In a job the regions that differ are the file `regions_id`, values from 16 on, on the radiograph's own
    grid, and `difference_id` is a picture of the difference, red where the radiograph is denser.
    """

    def __init__(self, engine: Engine, concepts: Concepts, datastore: Callable[[], Datastore]) -> None:
        super().__init__(engine, OTHERS, {}, "The same chest with healthy lungs, and where it differs")
        self.concepts, self.datastore = concepts, datastore
        self.options = (
            suggested("concept", lambda: concepts.names() or [HEALTHY], HEALTHY, "the name of a concept"),
            number("strength", core.STRENGTH, 0.01, 1),
            number("guidance", None, 0, 20),
            whole("candidates", core.CANDIDATES, 2, 8),
            whole("seed", 0, 0, 2**31 - 1),
            whole("steps", InpaintSettings().steps, 1, 100),
            *MASK_OPTIONS,
        )

    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """See Task."""
        healthy = self.concepts.find(settings["concept"])
        ending, warnings = image_ending(radiograph.source, request)
        said = ("strength", "guidance", "seed", "steps")
        chosen = core.twin_settings(**{name: settings[name] for name in said})
        report(0.0, LOOKING)
        given = mask_of(radiograph, settings, request, self.datastore)
        mask, keep = given or (self._lungs(radiograph), None)
        shared = core.prepare(self.engine.bundle, radiograph, healthy, mask, keep, chosen)
        count = settings["candidates"]
        steps = painting.Steps(count, shared.steps, shared.preview, LOOKED)
        found = core.compare(shared, shared.candidates(count, steps))
        in_job = progress.folder.get() is not None
        shown = found.candidates if in_job else found.candidates[:1]
        made = [painting.save_candidate(item, k, ending) for k, item in enumerate(shown, start=1)]
        params = painting.result([entry for _, entry in made], warnings)
        params["regions"] = [asdict(region) | {"name": region.name} for region in found.regions]
        if in_job:
            params |= self._compared(radiograph, found, request)
        return made[0][0], params

    def _lungs(self, radiograph: Radiograph) -> np.ndarray:
        with progress.part(0.0, LOOKED, LOOKING):
            return core.mask_of_lungs(self.engine.lungs(radiograph).labelmap)

    def _compared(self, radiograph: Radiograph, found: core.Twin, request: Request) -> Settings:
        """Where the two differ, as files of the job."""
        folder = progress.folder.get()
        assert folder is not None
        source = radiograph.pixels
        picture = save_png(difference_map(source - found.difference, source), folder / "difference.png")
        files: Settings = {"difference_id": picture.name}
        if found.regions:
            wanted = {} if request.get("result_extension") == ".dcm" else request
            files["regions_id"] = write_labels(found.labelmap, wanted, "regions").name
            files |= {"region_" + name: value for name, value in described(found.labelmap).items()}
        return files
