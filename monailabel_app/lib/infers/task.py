"""What every infer task shares: reading the request, opening the image, saying what was done."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.configs.options import Option, display, read
from monailabel_app.lib.engine import Engine
from monailabel_app.progress import report

Settings = dict[str, Any]
Request = Mapping[str, Any]

SEGMENTATION, OTHERS = InferType.SEGMENTATION, InferType.OTHERS
"""Stock clients import the results of the one as labels and leave those of the other alone."""


class Task(InferTask):
    """One kind of work on one radiograph. `run` returns the result's file and its params."""

    options: tuple[Option, ...] = ()

    def __init__(self, engine: Engine, kind: InferType, labels: dict[str, int], description: str) -> None:
        super().__init__(type=kind, labels=labels, dimension=2, description=description)
        self.engine = engine

    def is_valid(self) -> bool:
        """Whether it can be used: always, unless a task says otherwise."""
        return True

    def config(self) -> Settings:
        """For `/info`."""
        return display(self.options)

    def __call__(self, request: Request) -> tuple[str, Settings]:
        """`request["image"]` is a file. Raises RequestError, RadiographError and the like, and Cancelled."""
        settings = read(self.options, request)
        started = time.perf_counter()
        report(0.0, "Reading the image")
        radiograph = self.engine.open(request["image"])
        path, params = self.run(radiograph, settings, request)
        report(1.0, "Done")
        about = {"bundle": self.engine.bundle.id, "device": str(self.engine.bundle.device)}
        return str(path), about | params | {"seconds": round(time.perf_counter() - started, 3)}

    @abstractmethod
    def run(self, radiograph: Radiograph, settings: Settings, request: Request) -> tuple[Path, Settings]:
        """The result's file and its params, ready for JSON."""
