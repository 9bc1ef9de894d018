"""The ASGI application: our walls around MONAI Label's app.

MONAI Label's own FastAPI application is not used: its routes block the event loop and check nothing. Its app,
datastore and sessions classes are, behind routes of the same contract.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from monailabel.config import settings as monailabel_settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from dino_diffusion import __version__
from monailabel_app.server.access import BearerToken, BodyLimit, LoopbackOnly, SecurityHeaders
from monailabel_app.server.context import Server
from monailabel_app.server.description import describe
from monailabel_app.server.errors import RESPONSES, install_handlers
from monailabel_app.server.jobs import Job, Jobs, Lane
from monailabel_app.server.jobs.job import MODEL_LANE
from monailabel_app.server.jobs.queue import FairQueue
from monailabel_app.server.jobs.store import JobStore
from monailabel_app.server.log import RequestLog
from monailabel_app.server.metrics import Metrics
from monailabel_app.server.routes import access, datastore, infer, info, jobs, session, tasks, worklist
from monailabel_app.server.sessions import keep_clean, remove_expired
from monailabel_app.server.settings import ServerSettings

logger = logging.getLogger(__name__)
FORM_LIMITS = {"max_fields": 50, "max_files": 20, "max_part_size": 4 * 1024 * 1024}
CHORES_LIMIT = 8
ROUTERS = (access, info, infer, jobs, session, datastore, tasks, worklist)


def create_app(settings: ServerSettings, instance: MONAILabelApp | None = None) -> ASGIApp:
    """The whole server; `instance` is loaded from `settings` at its start where none is given."""
    server = make_server(settings)
    app = FastAPI(
        title="DiNO-Diffusion for annotators",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(server, instance),
        responses=RESPONSES,  # type: ignore[arg-type]
        max_body_size=settings.max_upload,
        form_limits=FORM_LIMITS,  # type: ignore[arg-type]
    )
    app.state.server = server
    install_handlers(app)
    for module in ROUTERS:
        app.include_router(module.router)
    describe(app)
    return walls(app, server)


def walls(app: ASGIApp, server: Server) -> ASGIApp:
    """What every request passes, from the last to the first."""
    settings = server.settings
    token, cors = settings.token, settings.cors
    app = BodyLimit(app, settings.max_upload)
    app = LoopbackOnly(app, cors) if token is None else BearerToken(app, token)
    app = CORSMiddleware(
        app, allow_origins=cors, allow_methods=["GET", "POST", "PUT", "DELETE", "HEAD"],
        allow_headers=["Authorization", "Content-Type", "X-Client-Id"],
        expose_headers=["Content-Disposition"],
    )  # fmt: skip
    return RequestLog(SecurityHeaders(app), server.metrics)


def make_server(settings: ServerSettings) -> Server:
    """Queue, disk and metrics; nothing runs yet."""

    def ended(job: Job) -> None:
        metrics.job_ended(job)
        logger.info("job", extra={"kind": job.kind, "model": job.model, "state": job.state.value})

    lanes = {
        MODEL_LANE: Lane(FairQueue(settings.queue_limit, settings.client_limit)),
        tasks.CHORES: Lane(FairQueue(CHORES_LIMIT, CHORES_LIMIT)),
    }
    service = Jobs(JobStore(settings.jobs), lanes, settings.keep_days * 86400, ended)
    metrics = Metrics(service.waiting)
    return Server(settings, service, metrics)


def _lifespan(server: Server, instance: MONAILabelApp | None):  # type: ignore[no-untyped-def]
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            # Of requests that a killed server did not end.
            shutil.rmtree(server.settings.state / "requests", ignore_errors=True)
            app = instance or load_instance(server.settings)
            app.server_mode(True)
            sessions = app.sessions()
            remove_expired(sessions, unfinished=0.0)
            server.jobs.start()
        except Exception as error:
            logger.error("not started", exc_info=error)
            raise
        server.loaded = app
        cleaning = asyncio.create_task(keep_clean(sessions))
        logger.info("started")
        yield
        cleaning.cancel()
        server.loaded = None
        server.jobs.stop()
        server.jobs.store.close()
        logger.info("stopped")

    return lifespan


def load_instance(settings: ServerSettings) -> MONAILabelApp:
    """MONAI Label's app of the thin folder, which is made here."""
    configure_monailabel(settings)
    settings.app.mkdir(parents=True, exist_ok=True)
    for name in ("model", "lib", "logs", "bin"):
        (settings.app / name).mkdir(exist_ok=True)
    (settings.app / "main.py").write_text(
        "from monailabel_app.main import DinoDiffusionApp\n", encoding="utf-8"
    )
    return app_instance(str(settings.app), settings.studies, dict(settings.conf))


def configure_monailabel(settings: ServerSettings) -> None:
    """MONAI Label's settings are one for a process."""
    monailabel_settings.MONAI_LABEL_APP_DIR = str(settings.app)
    monailabel_settings.MONAI_LABEL_STUDIES = settings.studies
    monailabel_settings.MONAI_LABEL_APP_CONF = dict(settings.conf)
    monailabel_settings.MONAI_LABEL_SESSION_PATH = str(settings.sessions)
    # Otherwise every submitted label starts a process that loads the model again.
    monailabel_settings.MONAI_LABEL_AUTO_UPDATE_SCORING = False
