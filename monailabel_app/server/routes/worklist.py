"""The next sample, the worklist, and what there is to paint and to find."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from monailabel_app.server.context import Context, client_of, finished
from monailabel_app.server.jobs import Job
from monailabel_app.server.names import check_params
from monailabel_app.server.tasks import known_strategy

router = APIRouter()


@router.post("/activelearning/{strategy}", summary="The image to label next", tags=["ActiveLearning"])
async def next_sample(
    request: Request, server: Context, strategy: str, params: Annotated[dict[str, Any] | None, Body()] = None
) -> dict[str, Any]:
    """{} where nothing is left. Runs in the model's queue: a strategy may have to look at images first."""
    app = server.instance
    known_strategy(app, strategy)
    client = client_of(request, params)
    asked = {**check_params(params or {}), "strategy": strategy, "client_id": client}
    found: dict[str, Any] = {}

    def work() -> dict[str, Any]:
        found.update(app.next_sample(asked) or {})
        if found:
            _note(app.datastore(), found, strategy, client)
        return {}

    await finished(server, server.jobs.submit(Job("next", strategy, client, None, work)), request)
    return found


def _note(store: Any, found: dict[str, Any], strategy: str, client: str) -> None:
    info = store.get_image_info(found["id"])
    given = {**info.get("strategy", {}), strategy: {"ts": int(time.time()), "client_id": client}}
    store.update_image_info(found["id"], {"strategy": given})
    found.update(info)


@router.get("/worklist", summary="All images and how far they are", tags=["Worklist"])
def worklist(server: Context) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = server.instance.worklist_entries()
    return entries


@router.get("/concepts", summary="What can be painted", tags=["Models"])
def concepts(server: Context) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = server.instance.concepts.entries()
    return entries


@router.get("/embeddings", summary="Learnt segments and their versions", tags=["Models"])
def embeddings(server: Context) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = server.instance.embeddings.entries()
    return entries


@router.post(
    "/embeddings/{name}/activate", summary="Use a version from now on, an older one too", tags=["Models"]
)
def activate(server: Context, name: str, version: Annotated[int, Body(embed=True, ge=1)]) -> dict[str, Any]:
    app = server.instance
    app.embeddings.activate(name, version)
    return {"name": name, "version": version}
