"""`regions`: the picture cut into regions at any granularity, or the one under a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dino_diffusion.codes import FIRST_LEARNT
from dino_diffusion.radiograph import Labelmap, Radiograph
from dino_diffusion.segmentation.regions import DEFAULT_GRANULARITY
from monailabel_app.lib.configs.options import number, pixel
from monailabel_app.lib.engine import Engine
from monailabel_app.lib.errors import RequestError
from monailabel_app.lib.infers.task import SEGMENTATION, Request, Settings, Task
from monailabel_app.lib.results import described, write_labels
from monailabel_app.progress import report


class RegionsTask(Task):
    """Values from 16 on, in reading order. Only the first request of an image takes its time."""

    options = (number("granularity", DEFAULT_GRANULARITY, 0, 1), pixel("point"))

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, SEGMENTATION, {}, "Regions of any granularity, or the one under a pixel")

    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """See Task. `point`: column and row of the file's own pixels; the region under it alone."""
        place = None if settings["point"] is None else upright(radiograph, *settings["point"])
        found, granularity = self.engine.regions(radiograph), settings["granularity"]
        if place is not None:
            labels = np.where(found.at(*place, granularity), FIRST_LEARNT, 0).astype(np.uint8)
            names = {FIRST_LEARNT: "region"}
        else:
            labels = found.labels(granularity) + np.uint8(FIRST_LEARNT - 1)
            names = {FIRST_LEARNT + k: f"region {k + 1}" for k in range(found.count(granularity))}
        labelmap = Labelmap(labels, radiograph, names)
        report(0.9, "Writing the labels")
        params = described(labelmap) | {"granularity": granularity, "count": len(names), "warnings": []}
        return write_labels(labelmap, request), params


def upright(radiograph: Radiograph, x: int, y: int) -> tuple[int, int]:
    """Row and column in the upright picture of a pixel of the file. Raises RequestError for one outside."""
    grid = radiograph.source.grid
    height, width = (grid.shape[axis] for axis in grid.plane)
    if not (0 <= x < width and 0 <= y < height):
        raise RequestError(
            f"point=[{x}, {y}] lies outside the image; columns end at {width - 1}, rows at {height - 1}."
        )
    return grid.upright_place(y, x)
