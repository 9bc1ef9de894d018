"""Jobs: submit, watch, stop, fetch."""

from __future__ import annotations

import asyncio
import mimetypes
import shutil
import time
from collections.abc import AsyncIterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monailabel_app.server.context import Context, Server, client_of
from monailabel_app.server.jobs import Job, State
from monailabel_app.server.names import parse_object
from monailabel_app.server.tasks import Subject, infer_request, kept_infer, train_request, train_work

router = APIRouter(prefix="/jobs", tags=["Jobs"])
EVENTS_EVERY = 0.1
KEEP_ALIVE = 15.0


class JobRequest(BaseModel):
    """The field `request` of `POST /jobs`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["infer", "train"]
    model: str = Field(min_length=1, max_length=100)
    image: str | None = Field(None, max_length=400)
    session_id: str | None = Field(None, max_length=100)
    params: dict[str, Any] = {}


class JobFile(BaseModel):
    name: str
    media_type: str
    bytes: int


class JobState(BaseModel):
    """A job as clients see it. Times are seconds since 1970."""

    id: str
    kind: str
    model: str
    image: str | None
    state: State
    progress: float = Field(ge=0, le=1)
    message: str
    position: int | None = Field(
        description="How many jobs come before it, itself counted; null once it runs"
    )
    eta_seconds: float | None
    created: float
    started: float | None
    ended: float | None
    error: str | None
    preview: bool = Field(description="Whether GET /jobs/{id}/preview has a picture")
    params: dict[str, Any]
    files: list[JobFile]


@router.post("", status_code=202, summary="Queue an inference or a training")
@router.post("/", status_code=202, include_in_schema=False)
async def submit(
    request: Request, server: Context, asked: Annotated[str, Form(alias="request")],
    image: Annotated[UploadFile | None, File()] = None, label: Annotated[UploadFile | None, File()] = None,
) -> JobState:  # fmt: skip
    """Multipart: `request` as JSON (see JobRequest), and where it fits the files `image` and `label`."""
    wanted = _parse(asked)
    client = client_of(request, wanted.params)
    return await run_in_threadpool(_submit, server, wanted, client, image, label)


def _parse(text: str) -> JobRequest:
    given = parse_object(text, "request")
    try:
        return JobRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise HTTPException(422, f"request.{where}: {first['msg']}.") from error


def _submit(
    server: Server, wanted: JobRequest, client: str, image: UploadFile | None, label: UploadFile | None
) -> JobState:
    app = server.instance
    job = Job(wanted.kind, wanted.model, client, None, image=wanted.image)
    folder = job.folder = server.settings.jobs / job.id
    try:
        folder.mkdir(parents=True)
        if wanted.kind == "train":
            job.work = train_work(app, train_request(app, wanted.model, wanted.params))
        else:
            subject = Subject(wanted.image, wanted.session_id, image, label)
            job.work = kept_infer(
                app, infer_request(app, wanted.model, wanted.params, subject, folder), folder
            )
        return shown(server, server.jobs.submit(job))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@router.get("", summary="Your jobs, newest first")
@router.get("/", include_in_schema=False)
def listed(request: Request, server: Context) -> list[JobState]:
    return [shown(server, job) for job in server.jobs.of_client(client_of(request))]


@router.get("/{job_id}", summary="A job's state")
def state(server: Context, job_id: str) -> JobState:
    return shown(server, server.jobs.get(job_id))


@router.delete("/{job_id}", summary="Stop a job, or remove one that has ended")
def stop(server: Context, job_id: str) -> JobState:
    job = server.jobs.get(job_id)
    described = shown(server, job)
    if job.state.ended:
        server.jobs.remove(job)
        return described
    server.jobs.cancel(job)
    return shown(server, job)


@router.get(
    "/{job_id}/preview", summary="What the result looks like so far", response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)  # fmt: skip
def preview(server: Context, job_id: str) -> Response:
    picture = server.jobs.get(job_id).preview
    if picture is None:
        raise HTTPException(404, "There is no preview of this job (yet).")
    return Response(picture, media_type="image/png")


@router.get("/{job_id}/files/{name}", summary="A file of the result", response_class=FileResponse)
def file(server: Context, job_id: str, name: str) -> FileResponse:
    for path in server.jobs.get(job_id).files():
        if path.name == name:
            return FileResponse(path, media_type=media_type(name), filename=name)
    raise HTTPException(404, "The job has no such file; GET /jobs/{id} lists its files.")


def known_job(server: Context, job_id: str) -> Job:
    """Before the stream begins, so that an unknown job is a 404."""
    return server.jobs.get(job_id)


@router.get(
    "/{job_id}/events", summary="A job's state whenever it changes", response_class=EventSourceResponse
)
async def events(server: Context, job: Annotated[Job, Depends(known_job)]) -> AsyncIterable[ServerSentEvent]:
    told, quiet = -1, time.monotonic()
    while True:
        changes, ended = job.changes, job.state.ended
        if changes != told or ended:
            told, quiet = changes, time.monotonic()
            described = await run_in_threadpool(shown, server, job)
            yield ServerSentEvent(
                data=described.model_dump(mode="json"), event="done" if ended else "progress"
            )
            if ended:
                return
        elif time.monotonic() - quiet > KEEP_ALIVE:
            quiet = time.monotonic()
            yield ServerSentEvent(comment="still there")
        await asyncio.sleep(EVENTS_EVERY)


def shown(server: Server, job: Job) -> JobState:
    """`job` as clients see it."""
    return JobState(
        id=job.id, kind=job.kind, model=job.model, image=job.image, state=job.state,
        progress=job.progress, message=job.message, position=server.jobs.position(job),
        eta_seconds=server.jobs.eta(job), created=job.created, started=job.started, ended=job.ended,
        error=job.error, preview=job.preview is not None, params=job.params,
        files=[JobFile(name=path.name, media_type=media_type(path.name), bytes=path.stat().st_size)
               for path in (job.files() if job.state.ended else [])],
    )  # fmt: skip


def media_type(name: str) -> str:
    if name.endswith(".dcm"):
        return "application/dicom"
    if name.endswith(".json"):
        return "application/json"
    guessed, encoding = mimetypes.guess_type(name)
    return guessed if guessed and not encoding else "application/octet-stream"
