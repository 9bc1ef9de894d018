"""Every error leaves as {"detail": one sentence} with the status that fits it."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelException
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from dino_diffusion.errors import Cancelled, DinoDiffusionError
from monailabel_app.lib.errors import NotFound

logger = logging.getLogger(__name__)


TOO_LARGE = "More than the server takes; send one radiograph, or start it with more --max-upload-mb."


FOLDERS = re.compile(r"""(?:(?<=^)|(?<=[\s'"(]))/(?:[^/:\n]+/)+""")
"""Of an absolute path at the beginning of a word."""


class UpstreamError(DinoDiffusionError):
    """What this server itself relies on does not answer, or not as it should: HTTP 502."""


class Problem(BaseModel):
    """What every 4xx and 5xx answer holds."""

    detail: str


RESPONSES = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503)
}
"""For the OpenAPI description."""


def install_handlers(app: FastAPI) -> None:
    """Nothing but a Problem leaves `app` when something goes wrong."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, sentence_of(request, error), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def misshapen(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, validation_sentence(error))

    @app.exception_handler(MONAILabelException)
    async def monailabel_refused(request: Request, error: MONAILabelException) -> JSONResponse:
        return problem(*explain(error))

    @app.exception_handler(DinoDiffusionError)
    async def core_refused(request: Request, error: DinoDiffusionError) -> JSONResponse:
        return problem(*explain(error))

    @app.exception_handler(Exception)
    async def broke(request: Request, error: Exception) -> JSONResponse:
        return problem(*explain(error))


def problem(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status_code=status, headers=headers)


def explain(error: BaseException) -> tuple[int, str]:
    """Status and sentence of what went wrong in the work itself."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, Cancelled):
        return 409, "The job was cancelled."
    if isinstance(error, UpstreamError):
        return 502, without_folders(str(error))
    if isinstance(error, DinoDiffusionError):
        return 404 if isinstance(error, NotFound) else 400, without_folders(str(error))
    if isinstance(error, MONAILabelException):
        return 400, without_folders(str(error.msg))
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return 503, "The device has too little free memory for this; try a smaller image or fewer candidates."
    # Its text may hold a path or a patient's name: only its kind and place are told and logged.
    logger.error("unexpected %s", type(error).__name__, exc_info=error)
    return 500, f"The server failed ({type(error).__name__}); its log says where."


def without_folders(sentence: str) -> str:
    """Files by their names alone: where they lie on the server is nobody's business."""
    return FOLDERS.sub("", sentence)


def sentence_of(request: Request, error: HTTPException) -> str:
    if error.status_code == 404 and error.detail == "Not Found":
        return "There is nothing at this address; GET /openapi.json lists what there is."
    if error.status_code == 405:
        return f"{request.method} is not possible at this address; GET /openapi.json lists what is."
    if error.status_code == 413:
        return TOO_LARGE
    return str(error.detail)


def validation_sentence(error: RequestValidationError) -> str:
    """The first thing that does not fit, by name; what was sent is not repeated."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first.get("loc", ()) if part not in ("query", "body", "path"))
    return f"{where or 'The request'}: {first.get('msg', 'does not fit')}."
