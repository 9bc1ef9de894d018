"""The MONAI Label app: lungs, learnt segments and regions, and radiographs painted anew.

A server's app folder needs one line: `from monailabel_app.main import DinoDiffusionApp`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from dino_diffusion import __version__
from dino_diffusion.device import device_name
from monailabel_app.lib.activelearning.scoring import ScoreAll
from monailabel_app.lib.batch import ORIGINAL, Batch
from monailabel_app.lib.concepts import Concepts
from monailabel_app.lib.configs import tasks
from monailabel_app.lib.configs.options import tag
from monailabel_app.lib.database import Database
from monailabel_app.lib.embeddings import Embeddings
from monailabel_app.lib.engine import Engine
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.lib.scores import Scores
from monailabel_app.lib.worklist import Worklist, as_json
from monailabel_app.server.datastore import DurableDatastore
from monailabel_app.server.dicomweb import open_archive

logger = logging.getLogger(__name__)

NAME = "DiNO-Diffusion"
ABOUT = (
    "Lungs without labels, structures learnt from one example, radiographs painted in place. "
    "Research software, not a medical device."
)
LABEL_TAG = tag("label_tag")


class DinoDiffusionApp(MONAILabelApp):
    """Loads the model once and keeps it warm.

    `conf`: `bundle` (a folder or hub name), `device`, and `state`, the folder for what the app keeps: learnt
    segments, own concepts, the worklist's database; without it `app_dir` is used. What a server's own routes
    need are the methods here and those of `worklist` (skip, review), `concepts` and `embeddings` (entries,
    activate); errors are DinoDiffusionErrors, `lib.errors.NotFound` among them, each one sentence.
    """

    def __init__(
        self, app_dir: str, studies: str, conf: Mapping[str, str] | None = None, engine: Engine | None = None
    ) -> None:
        conf = dict(conf or {})
        state = Path(conf.get("state") or app_dir)
        self.engine = engine or Engine.load(conf.get("bundle"), conf.get("device"))
        bundle = self.engine.bundle
        self.database = Database(state / "worklist.sqlite")
        self.worklist = Worklist(self.database, self.datastore)
        self.scores = Scores(self.database, self.engine, self.datastore)
        self.embeddings = Embeddings(bundle, state / "embeddings")
        self.concepts = Concepts(bundle, state / "concepts")
        self.parts = tasks.Parts(
            self.engine, self.embeddings, self.concepts, self.worklist, self.scores, self.datastore
        )
        super().__init__(app_dir, studies, conf, NAME, ABOUT, __version__)
        # Upstream scores in a process of its own, which loads the app again for every label.
        self._auto_update_scoring = False
        self.embeddings.changed = self._learnt

    def info(self) -> dict[str, Any]:
        """MONAI Label's, with the device in words and the model's id, for a client to show."""
        bundle = self.engine.bundle
        device = "CPU" if bundle.device.type == "cpu" else device_name(bundle.device)
        return {**super().info(), "device": device, "bundle": bundle.id}

    def init_datastore(self) -> Datastore:
        """A folder, or a DICOMweb archive by its address."""
        if self.studies.startswith(("http://", "https://")):
            state = Path(self.conf.get("state") or self.app_dir)
            return open_archive(self.studies, state, bool(self.conf.get("store_synthetic")))
        return DurableDatastore(self.studies)

    def init_infers(self) -> dict[str, InferTask]:
        """See `lib.configs.tasks`."""
        return tasks.infers(self.parts) | tasks.learnt_infers(self.parts)

    def init_trainers(self) -> dict[str, TrainTask]:
        """See `lib.configs.tasks`."""
        return tasks.trainers(self.parts)

    def init_strategies(self) -> dict[str, Strategy]:
        """See `lib.configs.tasks`."""
        return tasks.strategies(self.parts)

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """One, which fills what strategies need."""
        return {"uncertainty": ScoreAll(self.scores)}

    def init_batch_infer(self) -> Callable[..., Any]:
        """In this process, one image after the other."""
        return Batch(self.worklist, self.database, self.identity)

    def identity(self, model: str) -> str | None:
        """What a model is just now: bundle and version in use. None for one whose results are no labels."""
        task = self._infers.get(model)
        if task is None or task.type != InferType.SEGMENTATION:
            return None
        versions = {entry.slug: entry.active for entry in self.embeddings.all().values()}
        return f"{model} {self.engine.bundle.id} {json.dumps(versions, sort_keys=True)}"

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """`image` is an id of the datastore, or the absolute path of a file that the caller has checked.

        With `save_label` the result becomes the label `label_tag` of the image. Answers as MONAI Label does:
        `label`, `tag`, `file`, `params`. Raises NotFound, RequestError and what the task raises.
        """
        store = datastore or self.datastore()
        model, image = request.get("model"), request.get("image")
        task = self._infers.get(model) if isinstance(model, str) else None
        if task is None or not task.is_valid():
            raise NotFound(f"There is no model '{str(model)[:64]}'; choose one of {', '.join(self._infers)}.")
        asked = {name: value for name, value in request.items() if name != "image_id"}
        asked["image"] = self._image(store, image)
        from_store = not Path(str(image)).is_absolute()
        if from_store:
            asked["image_id"] = image
        file, params = task(asked)
        if model == "lungs" and from_store:
            self.scores.note(str(image), Path(asked["image"]))
        label, label_tag = file, LABEL_TAG.read(request) or ORIGINAL
        if request.get("save_label") and from_store:
            if task.type != InferType.SEGMENTATION:
                raise RequestError(f"The result of '{model}' is an image; it cannot be saved as a label.")
            label = store.save_label(str(image), file, label_tag, {"model": model, "params": params})
            Path(file).unlink(missing_ok=True)
            file = None
        return {"label": label, "tag": label_tag, "file": file, "params": params}

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The next image, reserved for `client_id`; {} where nothing is left. Raises NotFound."""
        name = request.get("strategy") or "random"
        strategy = self._strategies.get(name) if isinstance(name, str) else None
        if strategy is None:
            known = ", ".join(self._strategies)
            raise NotFound(f"There is no strategy '{str(name)[:64]}'; choose one of {known}.")
        found = strategy(request, self.datastore())
        return {} if found is None else {**found, "path": self.datastore().get_image_uri(found["id"])}

    def on_save_label(self, image_id: str, label_id: str) -> None:
        """A label was submitted: the image is no longer reserved, and its old review is void."""
        self.worklist.submitted(image_id)

    def worklist_entries(self) -> list[dict[str, Any]]:
        """For `GET /worklist`: all images with `status`, `uncertainty`, `labels`, and what else is known."""
        return as_json(self.worklist.entries(self.scores.uncertainties()))

    def _image(self, store: Datastore, image: Any) -> str:
        if isinstance(image, str) and image:
            if Path(image).is_absolute():
                return image
            if (uri := store.get_image_uri(image)) and Path(uri).exists():
                return str(uri)
        raise NotFound(f"There is no image '{str(image)[:80]}' in the datastore.")

    def _learnt(self) -> None:
        """A segment was learnt or another version activated: there is a task for each."""
        self._infers = tasks.infers(self.parts) | tasks.learnt_infers(self.parts)
