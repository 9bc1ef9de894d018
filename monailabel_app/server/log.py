"""A log of JSON lines without patient data.

Image ids, paths, parameters and file names can name a patient, so none is written: a request is its route's
template, an error its kind and the places in the code that it passed.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
import uuid
from logging.handlers import RotatingFileHandler
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monailabel_app.server.metrics import Metrics

OWN = "monailabel_app"
FIELDS = ("request", "method", "route", "status", "ms", "kind", "model", "state")
FILE_SIZE, FILES = 5_000_000, 4
SILENT = (
    "monailabel",
    "uvicorn.access",
    "uvicorn.error",
    "dicomweb_client",
    "httpx",
    "filelock",
    "highdicom",
)
UNMATCHED = "(none)"


class JsonLines(logging.Formatter):
    """Time, level, event, and the fields of FIELDS that a record has."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["at"] = places(record.exc_info[1])
        return json.dumps(line)


def places(error: BaseException) -> list[str]:
    """Where an error came along, outermost first, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames][-12:]


def open_log(path: Path) -> None:
    """`monailabel_app` logs into `path`; MONAI Label's own lines, which hold ids and paths, go nowhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=FILE_SIZE, backupCount=FILES, encoding="utf-8")
    handler.setFormatter(JsonLines())
    own = logging.getLogger(OWN)
    for old in list(own.handlers):
        own.removeHandler(old)
        old.close()
    own.addHandler(handler)
    own.setLevel(logging.INFO)
    own.propagate = False
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger(name).propagate = False


class RequestLog:
    """Logs and counts every request; no error passes it and ends a connection."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.logger = logging.getLogger(__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status, request_id = time.perf_counter(), 0, uuid.uuid4().hex[:12]

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            # Its handler has answered and logged it already, unless it came from outside the routes.
            if not status:
                self.logger.error("unexpected", exc_info=error)
                await JSONResponse({"detail": "The server failed; its log says where."}, 500)(
                    scope, receive, watched
                )
        finally:
            route = getattr(scope.get("route"), "path", UNMATCHED)
            seconds = time.perf_counter() - began
            self.metrics.request_ended(scope["method"], route, status, seconds)
            self.logger.info(
                "request",
                extra={"request": request_id, "method": scope["method"], "route": route,
                       "status": status, "ms": round(seconds * 1000, 1)},
            )  # fmt: skip
