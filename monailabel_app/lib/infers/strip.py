"""`strip`: the same patient from one concept to another, and what changes along it."""

from __future__ import annotations

from pathlib import Path

from dino_diffusion.generation.strip import StripPath, StripSettings, measured
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.concepts import Concepts
from monailabel_app.lib.configs.options import number, suggested, whole
from monailabel_app.lib.engine import LOOKING, Engine
from monailabel_app.lib.errors import RequestError
from monailabel_app.lib.infers import painting
from monailabel_app.lib.infers.task import OTHERS, Request, Settings, Task
from monailabel_app.lib.infers.twin import HEALTHY
from monailabel_app.lib.results import image_ending
from monailabel_app.progress import report

DEFAULTS = StripSettings()
MOST_FRAMES = 16


class StripTask(Task):
    """`from` and `to` are concepts; without `to` the first one that is not `from`.

    The result is the last frame. In a job every frame is a candidate with its `share` of the second concept.
    """

    def __init__(self, engine: Engine, concepts: Concepts) -> None:
        super().__init__(engine, OTHERS, {}, "The same patient from one concept to another")
        self.concepts = concepts
        name = "the name of a concept"
        self.options = (
            suggested("from", lambda: concepts.names() or [HEALTHY], HEALTHY, name),
            suggested("to", lambda: list(reversed(concepts.names())), "", name),
            whole("frames", DEFAULTS.frames, 2, MOST_FRAMES),
            number("strength", DEFAULTS.strength, 0.01, 1),
            number("guidance", DEFAULTS.guidance, 0.01, 20),
            whole("seed", 0, 0, 2**31 - 1),
            whole("steps", DEFAULTS.steps, 1, 100),
        )

    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """See Task."""
        bundle = self.engine.bundle
        start = self.concepts.find(settings["from"])
        end = self.concepts.find(settings["to"] or self._another(start.name))
        ending, warnings = image_ending(radiograph.source, request)
        chosen = StripSettings(
            **{name: settings[name] for name in ("frames", "strength", "guidance", "seed", "steps")}
        )
        report(0.0, LOOKING)
        path = StripPath.of(bundle, radiograph, start, end, chosen)
        steps = painting.Steps(chosen.frames, path.steps, painting.whole_pictures(bundle))
        frames = [path.frame(k, steps) for k in range(chosen.frames)]
        found = measured(bundle, radiograph, frames, chosen.shares, self._measuring)
        count, said = painting.asked_for(chosen.frames)
        made = []
        for k in range(chosen.frames - count, chosen.frames):
            about = {name: values[k] for name, values in found.quantities.items()}
            about |= {"share": found.shares[k]}
            made.append(painting.save_whole(frames[k], radiograph, bundle.size, k + 1, ending, **about))
        params = painting.result([entry for _, entry in made], warnings + said, trends=found.trends)
        return made[-1][0], params | {"from": start.name, "to": end.name}

    def _measuring(self, done: int, total: int) -> None:
        report(painting.PAINTED, "Measuring the frames")

    def _another(self, name: str) -> str:
        """The first concept but that one."""
        others = [other for other in self.concepts.names() if self.concepts.find(other).name != name]
        if not others:
            raise RequestError("This model knows no second concept; teach it one with dino-diffusion invert.")
        return others[0]
