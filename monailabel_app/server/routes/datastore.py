"""MONAI Label's `/datastore`, with names checked and labels on disk before they are acknowledged."""

from __future__ import annotations

import hashlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import FileResponse
from monailabel.interfaces.datastore import Datastore
from monailabel.utils.others.generic import get_mime_type

from dino_diffusion.radiograph import Radiograph
from monailabel_app.server.context import Context, client_of, scratch
from monailabel_app.server.datastore import SUFFIXES
from monailabel_app.server.labels import check_label
from monailabel_app.server.names import (
    check_params,
    check_tag,
    known_image,
    new_name,
    parse_object,
    suffix_of,
)
from monailabel_app.server.tasks import keep_upload, label_path

router = APIRouter(prefix="/datastore", tags=["Datastore"])
FINAL = "final"
CHECKSUMS = {"SHA256": hashlib.sha256, "SHA512": hashlib.sha512, "MD5": hashlib.md5}
TOLD = frozenset({"path"})
"""What the server says about an image and no client sets."""


class Output(StrEnum):
    train = "train"
    stats = "stats"
    all = "all"


@router.get("/", summary="State of the datastore, its contents, or its labelled pairs", response_model=None)
def contents(server: Context, output: Output | None = None) -> Any:
    store = server.instance.datastore()
    return (
        store.json()
        if output is Output.all
        else store.datalist()
        if output is Output.train
        else store.status()
    )


@router.put("/", include_in_schema=False)
@router.put("/image", summary="Upload an image")
def add_image(
    server: Context, file: Annotated[UploadFile, File()], image: Annotated[str | None, Query()] = None,
    params: Annotated[str, Form()] = "{}",
) -> dict[str, str]:  # fmt: skip
    store = server.instance.datastore()
    info = check_params(parse_object(params, "params"))
    suffix = suffix_of(file.filename, ".nii.gz")
    own = Path((file.filename or "").replace("\\", "/")).name.removesuffix(suffix)
    image_id = new_name(image or own, "an image")
    if image_id in store.list_images() and store.get_labels_by_image_id(image_id):
        raise HTTPException(409, "This image has labels already; give the new one another name.")
    if suffix.lower() not in SUFFIXES:
        raise HTTPException(400, f"An image's ending is one of {', '.join(SUFFIXES)}.")
    with scratch(server) as folder:
        path = keep_upload(file, folder, "image", suffix)
        Radiograph.read(path)
        return {"image": store.add_image(image_id, str(path), info)}


@router.delete("/", include_in_schema=False)
@router.delete("/image", summary="Remove an image; its labels stay among the versions")
def remove_image(server: Context, image: Annotated[str, Query(alias="id")]) -> dict[str, Any]:
    store = server.instance.datastore()
    store.remove_image(known_image(store, image))
    return {}


@router.head("/image", summary="Whether an image is there, with this checksum", response_model=None)
def check_image(server: Context, image: str, check_sum: str | None = None) -> dict[str, Any]:
    path = _image_path(server.instance.datastore(), image)
    if check_sum:
        name, _, digest = check_sum.rpartition(":")
        if (name or "SHA256").upper() not in CHECKSUMS:
            raise HTTPException(400, f"A checksum is NAME:DIGEST with one of {', '.join(CHECKSUMS)}.")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, CHECKSUMS[(name or "SHA256").upper()]).hexdigest()
        if found != digest.lower():
            raise HTTPException(404, "The image is there with another checksum.")
    return {}


@router.get("/image", summary="Download an image", response_class=FileResponse)
def get_image(server: Context, image: str) -> FileResponse:
    return _sent(_image_path(server.instance.datastore(), image))


@router.get("/image/info", summary="What is known of an image")
def image_info(server: Context, image: str) -> dict[str, Any]:
    store = server.instance.datastore()
    info: dict[str, Any] = store.get_image_info(known_image(store, image))
    return info


@router.put("/image/info", summary="Add to what is known of an image")
@router.put("/updateimageinfo", include_in_schema=False)
def update_image_info(server: Context, image: str, info: Annotated[str, Form()] = "{}") -> None:
    store = server.instance.datastore()
    store.update_image_info(known_image(store, image), check_params(parse_object(info, "info"), TOLD))


@router.put("/label", summary="Submit a label")
def save_label(
    request: Request, server: Context, image: str, label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}", tag: Annotated[str, Query()] = FINAL,
) -> dict[str, Any]:  # fmt: skip
    """200 says that the label is on disk and its predecessor is kept."""
    app = server.instance
    store = app.datastore()
    tag = check_tag(tag or FINAL)
    info = parse_object(params, "params")
    known_image(store, image)
    with scratch(server) as folder:
        path = keep_upload(label, folder, "label", ".nii.gz")
        check_label(path, Path(store.get_image_uri(image)))
        label_id = store.save_label(image, str(path), tag, {**info, "client_id": client_of(request, info)})
    answer = app.on_save_label(image, label_id) or {}
    if archive := store.get_label_info(image, tag).get("archive"):
        answer["archive"] = archive["state"]
    return {**answer, "image": image, "label": label_id}


@router.delete("/label", summary="Remove a label; its file stays among the versions")
def remove_label(server: Context, label: Annotated[str, Query(alias="id")], tag: str) -> dict[str, Any]:
    store = server.instance.datastore()
    label_path(server.instance, known_image(store, label), tag)
    store.remove_label(label, tag)
    return {}


@router.head("/label", summary="Whether a label is there", response_model=None)
def has_label(server: Context, image: str, tag: str) -> dict[str, Any]:
    _label_path(server, image, tag)
    return {}


@router.get("/label", summary="Download a label", response_class=FileResponse)
def get_label(server: Context, label: str, tag: str) -> FileResponse:
    return _sent(_label_path(server, label, tag))


@router.get("/label/info", summary="What is known of a label")
def label_info(server: Context, label: str, tag: str) -> dict[str, Any]:
    _label_path(server, label, tag)
    info: dict[str, Any] = server.instance.datastore().get_label_info(label, tag)
    return info


@router.put("/label/info", summary="Add to what is known of a label")
def update_label_info(server: Context, label: str, tag: str, info: Annotated[str, Form()] = "{}") -> None:
    _label_path(server, label, tag)
    server.instance.datastore().update_label_info(label, tag, check_params(parse_object(info, "info"), TOLD))


@router.put("/updatelabelinfo", include_in_schema=False)
def update_label_info_as_once(
    server: Context, label: str, tag: str, params: Annotated[str, Form()] = "{}"
) -> None:
    update_label_info(server, label, tag, params)


@router.get("/dataset", summary="All labelled pairs as ZIP", response_class=FileResponse)
def dataset(
    server: Context, background: BackgroundTasks, limit_cases: Annotated[int | None, Query(ge=1)] = None
) -> FileResponse:
    store = server.instance.datastore()
    if not store.datalist():
        raise HTTPException(404, "There are no submitted labels yet, so there is nothing to pack.")
    path = store.get_dataset_archive(limit_cases)
    background.add_task(os.unlink, path)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip")


@router.post("/skip", summary="Say that an image is not to be labelled, and why")
def skip(
    request: Request, server: Context, image: str,
    reason: Annotated[str, Body(embed=True, min_length=1, max_length=1000)],
) -> dict[str, str]:  # fmt: skip
    app = server.instance
    app.worklist.skip(known_image(app.datastore(), image), reason, client_of(request))
    return {"image": image, "status": "skipped"}


@router.post("/review", summary="Say what a review of an image's label came to")
def review(
    request: Request, server: Context, image: str,
    status: Annotated[str, Body(max_length=40)], comment: Annotated[str, Body(max_length=1000)] = "",
) -> dict[str, str]:  # fmt: skip
    app = server.instance
    app.worklist.review(known_image(app.datastore(), image), status, comment, client_of(request))
    return {"image": image, "status": status}


def _image_path(store: Datastore, image: str) -> Path:
    path = Path(store.get_image_uri(known_image(store, image)) or "/nowhere")
    if not path.is_file():
        raise HTTPException(404, "The image's file is gone.")
    return path


def _label_path(server: Context, image: str, tag: str) -> Path:
    return Path(label_path(server.instance, known_image(server.instance.datastore(), image), tag))


def _sent(path: Path) -> FileResponse:
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)
