"""MONAI Label's `/session`: upload an image once, infer many times."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse
from monailabel.utils.others.generic import get_mime_type
from monailabel.utils.sessions import SessionInfo, Sessions

from monailabel_app.server.context import Context, Server, scratch
from monailabel_app.server.names import check_session
from monailabel_app.server.tasks import keep_upload

router = APIRouter(prefix="/session", tags=["Session"])
LONGEST = 7 * 24 * 3600


@router.put("/", summary="Upload an image for several inferences")
def create(
    server: Context, files: Annotated[list[UploadFile], File()],
    uncompress: bool = False, expiry: Annotated[int, Query(ge=0, le=LONGEST)] = 0,
) -> dict[str, Any]:  # fmt: skip
    if uncompress or len(files) != 1:
        raise HTTPException(400, "A session holds one radiograph: send one file, not packed.")
    with scratch(server) as folder:
        path = keep_upload(files[0], folder, "image", ".nii.gz")
        session_id, info = _sessions(server).add_session(str(path), expiry, session_id=str(uuid.uuid4()))
    return {"session_id": session_id, "session_info": info.to_json()}


@router.get("/{session_id}", summary="A session, or its image", response_model=None)
def get(
    server: Context, session_id: str, update_ts: bool = False, image: bool = False
) -> dict[str, Any] | FileResponse:
    info = _info(server, session_id, update_ts)
    if image:
        return FileResponse(info.image, media_type=get_mime_type(info.image))
    described: dict[str, Any] = info.to_json()
    return described


@router.delete("/{session_id}", summary="End a session")
def remove(server: Context, session_id: str) -> dict[str, Any]:
    info = _info(server, session_id)
    _sessions(server).remove_session(session_id)
    described: dict[str, Any] = info.to_json()
    return described


def _sessions(server: Server) -> Sessions:
    return server.instance.sessions()


def _info(server: Server, session_id: str, update_ts: bool = False) -> SessionInfo:
    info = _sessions(server).get_session(check_session(session_id), update_ts=update_ts)
    if info is None:
        raise HTTPException(404, "There is no such session (any more); make one with PUT /session/.")
    return info
