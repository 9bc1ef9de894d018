"""MONAI Label's long-running tasks, `/train`, `/batch/infer` and `/scoring`, as jobs of this process.

Upstream starts a process for each, which imports the app and loads the model once more.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request
from monailabel.interfaces.datastore import Datastore

from dino_diffusion.errors import Cancelled
from monailabel_app import progress
from monailabel_app.server.context import Context, Server, client_of, finished
from monailabel_app.server.jobs import Job, State
from monailabel_app.server.jobs.job import MODEL_LANE
from monailabel_app.server.names import check_params
from monailabel_app.server.tasks import Work, known_model, known_scoring, train_request, train_work

router = APIRouter()
TRAIN, BATCH, SCORING = "train", "batch", "scoring"
CHORES = "chores"
"""The lane of work that only hands out other work: it must not keep the model from anyone."""
STOCK_STATES = {
    State.QUEUED: "SUBMITTED", State.RUNNING: "RUNNING", State.DONE: "DONE", State.FAILED: "ERROR",
    State.CANCELLED: "STOPPED",
}  # fmt: skip
BATCH_CLIENT = "batch"
WAIT_SECONDS, RETRY_SECONDS = 0.02, 1.0
Params = Annotated[dict[str, Any] | None, Body()]


class Images(StrEnum):
    all = "all"
    labeled = "labeled"
    unlabeled = "unlabeled"


@router.get("/train/", summary="The last training", tags=["Train"], response_model=None)
def train_status(server: Context, all: bool = False, check_if_running: bool = False) -> Any:
    return _status(server, TRAIN, all, check_if_running)


@router.post("/train/{model}", summary="Start a training", tags=["Train"])
async def train(
    request: Request, server: Context, model: str, params: Params = None, run_sync: bool = False,
    enqueue: bool = False,
) -> dict[str, Any]:  # fmt: skip
    asked = train_request(server.instance, model, params or {})
    if not enqueue and _running(server, TRAIN):
        raise HTTPException(429, "A training runs already; wait for it, stop it, or add enqueue=true.")
    return await _start(server, request, TRAIN, model, train_work(server.instance, asked), params, run_sync)


@router.delete("/train/", summary="Stop the trainings", tags=["Train"])
def train_stop(server: Context) -> dict[str, Any] | None:
    return _stop(server, TRAIN)


@router.get("/batch/infer", summary="The last batch inference", tags=["Infer"], response_model=None)
def batch_status(server: Context, all: bool = False, check_if_running: bool = False) -> Any:
    return _status(server, BATCH, all, check_if_running)


@router.post("/batch/infer/{model}", summary="Run a model on many images", tags=["Infer"])
async def batch(
    request: Request, server: Context, model: str, images: Images = Images.all, params: Params = None,
    run_sync: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Every image is a turn in the queue of its own, so that others get theirs in between."""
    app = server.instance
    known_model(app, model)
    asked = {**check_params(params or {}, frozenset({"image", "session", "model"})), "model": model}
    asked = {"images": images.value, **asked, "multi_gpu": False}
    work = _batch_work(server, asked)
    return await _start(server, request, BATCH, model, work, params, run_sync, lane=CHORES)


@router.delete("/batch/infer", summary="Stop the batch inferences", tags=["Infer"])
def batch_stop(server: Context) -> dict[str, Any] | None:
    return _stop(server, BATCH)


@router.get("/scoring/", summary="The last scoring", tags=["Scoring"], response_model=None)
def scoring_status(server: Context, all: bool = False, check_if_running: bool = False) -> Any:
    return _status(server, SCORING, all, check_if_running)


@router.post("/scoring/{method}", summary="Run a scoring method", tags=["Scoring"])
async def scoring(
    request: Request, server: Context, method: str, params: Params = None, run_sync: bool = False
) -> dict[str, Any]:
    app = server.instance
    asked = {**check_params(params or {}), "method": known_scoring(app, method)}
    return await _start(server, request, SCORING, method, lambda: app.scoring(asked) or {}, params, run_sync)


@router.delete("/scoring/", summary="Stop the scorings", tags=["Scoring"])
def scoring_stop(server: Context) -> dict[str, Any] | None:
    return _stop(server, SCORING)


async def _start(
    server: Server, request: Request, kind: str, model: str, work: Work, params: dict[str, Any] | None,
    wait: bool, lane: str = MODEL_LANE,
) -> dict[str, Any]:  # fmt: skip
    job = Job(kind, model, client_of(request, params), None, work, lane=lane)
    job.folder = server.settings.jobs / job.id
    job.folder.mkdir(parents=True)
    server.jobs.submit(job)
    if wait:
        await finished(server, job, request)
        return job.params
    return stock_task(job)


def _running(server: Server, kind: str) -> list[Job]:
    return [job for job in server.jobs.active() if job.kind == kind]


def _status(server: Server, kind: str, all: bool, check_if_running: bool) -> Any:
    jobs = _running(server, kind) if check_if_running else server.jobs.of_kind(kind)
    if not jobs:
        raise HTTPException(404, f"No {kind} task {'runs' if check_if_running else 'was started yet'}.")
    return (
        [stock_task(job) for job in reversed(jobs)] if all and not check_if_running else stock_task(jobs[0])
    )


def _stop(server: Server, kind: str) -> dict[str, Any] | None:
    jobs = _running(server, kind)
    for job in jobs:
        server.jobs.cancel(job)
    return stock_task(jobs[0]) if jobs else None


def stock_task(job: Job) -> dict[str, Any]:
    """A job as MONAI Label shows its tasks, with its progress beside."""
    told = [job.error or job.message] if job.error or job.message else []
    return {
        "id": job.id,
        "status": STOCK_STATES[job.state],
        "request": {"model": job.model},
        "start_ts": _stamp(job.created),
        **({"end_ts": _stamp(job.ended)} if job.ended else {}),
        "details": told,
        "progress": job.progress,
        "result": job.params,
    }


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _batch_work(server: Server, asked: dict[str, Any]) -> Work:
    app = server.instance

    def batch_work() -> dict[str, Any]:
        # Held here: MONAI Label's own batch infers in threads of its own, where nobody listens.
        listener = progress.current.get()

        def one_image(request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
            result: dict[str, Any] = {}

            def work() -> dict[str, Any]:
                result.update(app.infer(request, datastore) or {})
                return {}

            job = Job("infer", str(request.get("model")), BATCH_CLIENT, None, work)
            _run_in_line(server, job, listener)
            return result

        return app._batch_infer(asked, app.datastore(), one_image) or {}

    return batch_work


def _run_in_line(server: Server, job: Job, listener: progress.Progress) -> None:
    """Submits as soon as there is room and waits for the end. Raises Cancelled, HTTPException."""
    submitted = False
    try:
        while not job.state.ended:
            if not submitted:
                submitted = _submitted(server, job)
            listener.report(0.0)
            time.sleep(WAIT_SECONDS if submitted else RETRY_SECONDS)
    except Cancelled:
        server.jobs.cancel(job)
        raise
    job.finished.result()
    if job.state is not State.DONE:
        raise HTTPException(job.status, job.error or "The job failed.")


def _submitted(server: Server, job: Job) -> bool:
    try:
        server.jobs.submit(job)
    except HTTPException:
        return False
    return True
