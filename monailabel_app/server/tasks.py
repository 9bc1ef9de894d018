"""Between requests and MONAI Label's app: checked requests in, work for the queue out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException, UploadFile
from monailabel.interfaces.app import MONAILabelApp

from monailabel_app.server.names import (
    RESERVED,
    check_params,
    check_session,
    check_tag,
    known_image,
    suffix_of,
)

Request = dict[str, Any]
Work = Callable[[], dict[str, Any]]
INPUTS = "inputs"


@dataclass(frozen=True)
class Subject:
    """What an infer task works on: exactly one of the first three, and perhaps a mask."""

    image: str | None = None
    session_id: str | None = None
    file: UploadFile | None = None
    label: UploadFile | None = None


def known_model(app: MONAILabelApp, model: str) -> str:
    """404 for an infer task that the app does not have."""
    return _known(model, app._infers, "model")


def known_strategy(app: MONAILabelApp, strategy: str) -> str:
    return _known(strategy, app._strategies, "strategy")


def known_scoring(app: MONAILabelApp, method: str) -> str:
    return _known(method, app._scoring_methods, "scoring method")


def _known(name: str, names: Iterable[str], what: str) -> str:
    if name not in names:
        listed = ", ".join(names) or "none"
        raise HTTPException(404, f"There is no such {what}; this server has: {listed}.")
    return name


def infer_request(app: MONAILabelApp, model: str, params: Request, subject: Subject, folder: Path) -> Request:
    """A request that `app.infer` takes; uploads are written into `folder`/inputs. Raises HTTPException."""
    known_model(app, model)
    request = {**check_params(params, RESERVED | {"label"}), "model": model}
    request["image"] = _image(app, subject, folder)
    if subject.label is not None:
        request["label"] = str(keep_upload(subject.label, folder, "label", ".nii.gz"))
    elif params.get("mask") and subject.image:
        request["label"] = label_path(app, subject.image, str(params["mask"]))
    return request


def _image(app: MONAILabelApp, subject: Subject, folder: Path) -> str:
    given = [bool(subject.file), bool(subject.session_id), bool(subject.image)]
    if not any(given):
        raise HTTPException(400, "Say which image: its id, a session_id, or a file.")
    if subject.file is not None:
        return str(keep_upload(subject.file, folder, "image", ".nii.gz"))
    if subject.session_id:
        # MONAI Label falls back to `image` for a session that is gone: another image's result.
        session = app.sessions().get_session(check_session(subject.session_id))
        if session is None:
            raise HTTPException(404, "There is no such session (any more); make one with PUT /session/.")
        return str(session.image)
    image = known_image(app.datastore(), str(subject.image))
    # An archive's image is fetched here, while the model works for others.
    if not Path(app.datastore().get_image_uri(image) or "/nowhere").exists():
        raise HTTPException(404, "The image's file is gone.")
    return image


def label_path(app: MONAILabelApp, image: str, tag: str) -> str:
    """The file of a label. 404 where there is none."""
    found = app.datastore().get_label_uri(image, check_tag(tag)) if tag else ""
    if not found or not Path(found).is_file():
        raise HTTPException(404, "The image has no label with this tag; GET /worklist lists its tags.")
    return str(found)


def keep_upload(upload: UploadFile, folder: Path, name: str, default: str) -> Path:
    """An uploaded file in `folder`/inputs, under a name of the server's. 400 for an empty one."""
    path = folder / INPUTS / f"{name}{suffix_of(upload.filename, default)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file, 1 << 20)
    if not path.stat().st_size:
        raise HTTPException(400, "The uploaded file is empty.")
    return path


def kept_infer(app: MONAILabelApp, request: Request, folder: Path) -> Work:
    """Work whose result stays in the job's folder."""

    def work() -> dict[str, Any]:
        result = app.infer(request)
        if result is None:
            raise HTTPException(500, "The model gave no result.")
        file = Path(result["file"]) if result.get("file") else None
        if file is not None and file.is_file() and file.parent != folder:
            shutil.move(file, folder / f"result{suffix_of(file.name, file.suffix)}")
        return result.get("params") or {}

    return work


def train_request(app: MONAILabelApp, model: str, params: Request) -> Request:
    """A request that `app.train` takes. Raises HTTPException."""
    _known(model, app._trainers, "training task")
    for image in _images(params):
        known_image(app.datastore(), image)
    return {**check_params(params), "model": model}


def _images(params: Request) -> list[str]:
    images = params.get("images") or []
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise HTTPException(400, "images is a list of image ids.")
    return images


def train_work(app: MONAILabelApp, request: Request) -> Work:
    def work() -> dict[str, Any]:
        result = app.train(request)
        return result if isinstance(result, dict) else {"result": result}

    return work
