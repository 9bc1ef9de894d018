"""What the server can do, how it fares."""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response

from monailabel_app.server.context import Context
from monailabel_app.server.metrics import CONTENT_TYPE

router = APIRouter(tags=["App"])


@router.get("/info/", summary="Models, trainers, strategies and state of the datastore")
@router.get("/info", include_in_schema=False)
def info(server: Context) -> dict[str, Any]:
    described: dict[str, Any] = server.instance.info()
    return described


@router.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
def metrics(server: Context) -> Response:
    return Response(server.metrics.text(), media_type=CONTENT_TYPE)


@router.get(
    "/logs/",
    summary="The last lines of the server's log, JSON, no patient data",
    response_class=PlainTextResponse,
)
def logs(server: Context, lines: Annotated[int, Query(ge=1, le=5000)] = 300) -> PlainTextResponse:
    path = server.settings.log
    if not path.is_file():
        return PlainTextResponse("")
    with path.open(encoding="utf-8", errors="replace") as file:
        return PlainTextResponse("".join(deque(file, lines)))
