"""`inpaint`: what a mask marks is painted anew, every other pixel keeps its value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from monailabel.interfaces.datastore import Datastore

from dino_diffusion.generation.blend import TEXTURES
from dino_diffusion.generation.masks import EditMask
from dino_diffusion.generation.painting import Inpainting, InpaintSettings
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.concepts import NONE, Concepts
from monailabel_app.lib.configs.options import choice, flag, number, suggested, whole
from monailabel_app.lib.engine import LOOKING, Engine
from monailabel_app.lib.errors import RequestError
from monailabel_app.lib.infers import painting
from monailabel_app.lib.infers.masks import MASK_OPTIONS, mask_of
from monailabel_app.lib.infers.task import OTHERS, Request, Settings, Task
from monailabel_app.lib.results import image_ending
from monailabel_app.progress import report

MOST_CANDIDATES = 8
CONCEPT = "NAME, NAME:WEIGHT, or several of them with + between them"

DEFAULTS = InpaintSettings()


class Inpaint(Task):
    """Needs a mask, see `masks`."""

    def __init__(self, engine: Engine, concepts: Concepts, datastore: Callable[[], Datastore]) -> None:
        super().__init__(engine, OTHERS, {}, "Paints what a mask marks, as a concept or its surroundings say")
        self.concepts, self.datastore = concepts, datastore
        self.options = (
            suggested("concept", lambda: [NONE, *concepts.names()], NONE, CONCEPT),
            number("strength", DEFAULTS.strength, 0.01, 1),
            number("feather_mm", DEFAULTS.feather_mm, 0, 1000),
            number("guidance", DEFAULTS.guidance, 0, 20),
            choice("texture", TEXTURES),
            flag("keep_level"),
            whole("candidates", 1, 1, MOST_CANDIDATES),
            whole("seed", 0, 0, 2**31 - 1),
            whole("steps", DEFAULTS.steps, 1, 100),
            *MASK_OPTIONS,
        )

    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """See Task."""
        concepts = self.concepts.weighted(settings["concept"])
        ending, warnings = image_ending(radiograph.source, request)
        masks = mask_of(radiograph, settings, request, self.datastore)
        if masks is None:
            raise RequestError(
                "Inpainting needs a mask: upload one as the part 'label', or name a label's tag with 'mask'."
            )
        edit = EditMask.of(radiograph, *masks)
        count, said = painting.asked_for(settings["candidates"])
        chosen = InpaintSettings(
            **{name: settings[name] for name in ("strength", "feather_mm", "texture", "keep_level", "seed")},
            steps=settings["steps"],
            guidance=settings["guidance"],
        )
        report(0.0, LOOKING)
        shared = Inpainting.of(self.engine.bundle, radiograph, edit, concepts, chosen)
        steps = painting.Steps(count, shared.steps, shared.preview)
        made: list[tuple[Path, Settings]] = []
        for first in range(0, count, batch := painting.at_once(self.engine.bundle)):
            for item in shared.candidates(min(batch, count - first), steps, first):
                made.append(painting.save_candidate(item, len(made) + 1, ending))
        identical = int((~edit.inside).sum())
        entries = [entry for _, entry in made]
        return made[0][0], painting.result(entries, warnings + said, pixels_outside_identical=identical)
