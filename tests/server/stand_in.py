"""A MONAI Label app without a model: the smallest one that has everything the server serves.

It takes its time in steps and reports each, as the real tasks do, and runs under bare MONAI Label too.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from PIL import Image

from monailabel_app import progress
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.server.datastore import DurableDatastore
from monailabel_app.server.dicomweb import open_archive
from monailabel_app.server.studies import is_address

STEP_SECONDS = 0.05


def walk(steps: int) -> None:
    """`steps` steps of work, each reported with a picture."""
    for step in range(steps):
        progress.report(step / steps, f"step {step + 1} of {steps}", Image.new("L", (16, 16), step % 256))
        time.sleep(STEP_SECONDS)


class Segment(InferTask):
    """Labels the brighter half; `steps` of the request say how long it takes."""

    def __init__(self) -> None:
        super().__init__("segmentation", ["bright"], 2, "the brighter half", {"steps": 1})

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not str(request.get("steps", 1)).isdigit():
            raise RequestError("steps is a number from 0 on.")
        if request.get("crash"):
            raise ZeroDivisionError("/home/somebody/patient_meier.png")
        image = sitk.ReadImage(request["image"])
        walk(int(request.get("steps", 1)))
        pixels = sitk.GetArrayFromImage(image)
        labels = sitk.GetImageFromArray((pixels > np.median(pixels)).astype(np.uint8))
        labels.CopyInformation(image)
        suffix = request.get("result_extension") or ".nrrd"
        folder = progress.folder.get()
        with tempfile.NamedTemporaryFile(suffix=suffix, delete=False, dir=folder) as file:
            sitk.WriteImage(labels, file.name)
        if folder:
            (folder / "second.json").write_text("{}")
        return file.name, {
            "label_names": {"bright": 1},
            "mean": float(pixels.mean()),
            **({"not_a_number": float("nan")} if request.get("nan") else {}),
            "pid": os.getpid(),
        }


class Learn(TrainTask):
    def __init__(self) -> None:
        super().__init__("learns nothing")

    def config(self) -> dict[str, Any]:
        return {"steps": 2}

    def stats(self) -> dict[str, Any]:
        return {}

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        walk(int(request.get("steps", 2)))
        return {"labelled": len(datastore.get_labeled_images())}


class Count(ScoringMethod):
    def __init__(self) -> None:
        super().__init__("counts images")

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        return {"images": len(datastore.list_images())}


class Worklist:
    """As the real one to a caller."""

    def __init__(self, app: StandIn) -> None:
        self.app, self.skipped, self.reviewed = app, dict[str, str](), dict[str, str]()

    def skip(self, image: str, reason: str, client: str = "") -> None:
        self.skipped[image] = reason

    def review(self, image: str, status: str, comment: str = "", client: str = "") -> None:
        if status not in ("approved", "flagged", ""):
            raise RequestError("status is approved or flagged.")
        self.reviewed[image] = status


class Entries:
    def entries(self) -> list[dict[str, Any]]:
        return [{"name": "heart", "versions": [{"version": 1}]}]

    def activate(self, name: str, version: int) -> None:
        if (name, version) != ("heart", 1):
            raise NotFound("There is no such version.")


class StandIn(MONAILabelApp):
    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        super().__init__(app_dir, studies, conf, name="stand-in", version="1")
        self.worklist, self.concepts, self.embeddings = Worklist(self), Entries(), Entries()

    def init_datastore(self) -> Any:
        if self.conf.get("bare"):
            return super().init_datastore()
        if is_address(self.studies):
            return open_archive(self.studies, Path(self.conf["state"]), store_synthetic=False)
        return DurableDatastore(Path(self.studies))

    def init_infers(self) -> dict[str, InferTask]:
        return {"segment": Segment()}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {"learn": Learn()}

    def init_strategies(self) -> dict[str, Any]:
        return {"first": First()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return {"count": Count()}

    def worklist_entries(self) -> list[dict[str, Any]]:
        return [
            {"image": image, "status": "skipped" if image in self.worklist.skipped else "new"}
            for image in self.datastore().list_images()
        ]
