"""`variant`: new radiographs that resemble the open one."""

from __future__ import annotations

from pathlib import Path

from dino_diffusion.generation.sampled import DEFAULT_GUIDANCE, DEFAULT_STEPS
from dino_diffusion.generation.variants import Variation, generate, steps_of
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.configs.options import number, whole
from monailabel_app.lib.engine import LOOKING, Engine
from monailabel_app.lib.infers import painting
from monailabel_app.lib.infers.inpaint import MOST_CANDIDATES
from monailabel_app.lib.infers.task import OTHERS, Request, Settings, Task
from monailabel_app.lib.results import image_ending
from monailabel_app.progress import report


class Variant(Task):
    """The whole picture is synthetic, painted at the model's size and enlarged to the source's grid."""

    options = (
        number("strength", 1.0, 0.01, 1),
        number("jitter", 0.0, 0, 1),
        number("guidance", DEFAULT_GUIDANCE, 0, 20),
        whole("candidates", 1, 1, MOST_CANDIDATES),
        whole("seed", 0, 0, 2**31 - 1),
        whole("steps", DEFAULT_STEPS, 1, 100),
    )

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, OTHERS, {}, "New radiographs like this one: same embedding, other noise")

    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """See Task."""
        bundle = self.engine.bundle
        ending, warnings = image_ending(radiograph.source, request)
        variation = Variation(radiograph, strength=settings["strength"], jitter=settings["jitter"])
        count, said = painting.asked_for(settings["candidates"])
        each = steps_of(bundle, variation, settings["steps"])
        steps = painting.Steps(count, each, painting.whole_pictures(bundle))
        report(0.0, LOOKING)
        made: list[tuple[Path, Settings]] = []
        for first in range(0, count, batch := painting.at_once(bundle)):
            for item in generate(
                bundle,
                min(batch, count - first),
                variation,
                settings["seed"],
                settings["steps"],
                settings["guidance"],
                callback=steps,
                first=first,
            ):
                made.append(painting.save_whole(item, radiograph, bundle.size, len(made) + 1, ending))
        return made[0][0], painting.result([entry for _, entry in made], warnings + said)
