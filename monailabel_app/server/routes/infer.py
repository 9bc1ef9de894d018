"""MONAI Label's `/infer`, through the same queue as everything else; the event loop stays free."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from monailabel.endpoints.infer import send_response

from monailabel_app.server.context import Context, Server, client_of, finished, scratch
from monailabel_app.server.jobs import Job
from monailabel_app.server.jobs.service import finite
from monailabel_app.server.names import parse_object
from monailabel_app.server.tasks import Subject, Work, infer_request

router = APIRouter(prefix="/infer", tags=["Infer"])
DICOM_SEG_PARAMS = {"result_extension": ".dcm"}


class Output(StrEnum):
    image = "image"
    json = "json"
    all = "all"
    dicom_seg = "dicom_seg"


@router.post("/{model}", summary="Run a model and wait for its result", response_model=None)
async def infer(
    request: Request, server: Context, background: BackgroundTasks, model: str,
    image: Annotated[str, Query()] = "", session_id: Annotated[str, Query()] = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None, label: Annotated[UploadFile | None, File()] = None,
    output: Output | None = None,
) -> Any:  # fmt: skip
    """`multipart/form-data` with the parts `params` and `image`; or one of them, by `output`."""
    wanted = parse_object(params, "params")
    if output is Output.dicom_seg:
        wanted |= DICOM_SEG_PARAMS
    with ExitStack() as leaving:
        folder = leaving.enter_context(scratch(server))
        subject = Subject(image, session_id, file, label)
        result: dict[str, Any] = {}
        work = await run_in_threadpool(_prepare, server, model, wanted, subject, folder, result)
        job = server.jobs.submit(Job("infer", model, client_of(request, wanted), None, work))
        await finished(server, job, request)
        answer = await run_in_threadpool(_answer, server, result, output, background)
        # The files are sent after this function ends.
        background.add_task(leaving.pop_all().close)
    return answer


def _prepare(
    server: Server,
    model: str,
    params: dict[str, Any],
    subject: Subject,
    folder: Path,
    result: dict[str, Any],
) -> Work:
    app = server.instance
    asked = infer_request(app, model, params, subject, folder)

    def work() -> dict[str, Any]:
        result.update(app.infer(asked) or {})
        result["params"] = finite(result.get("params") or {})
        return {}

    return work


def _answer(
    server: Server, result: dict[str, Any], output: Output | None, background: BackgroundTasks
) -> Any:
    file = Path(result["file"]) if result.get("file") else None
    if output is Output.dicom_seg and file is not None:
        background.add_task(file.unlink, True)
        return FileResponse(file, media_type="application/dicom", filename=file.name)
    if output in (Output.image, Output.dicom_seg) and file is None:
        raise HTTPException(400, "This model answers with values alone; ask with output=json.")
    return send_response(server.instance.datastore(), result, output and output.value, background)
