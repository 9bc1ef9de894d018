"""The OpenAPI description, as the server answers: every error is a Problem in JSON, a token is needed."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from monailabel_app.server.access import OPEN_ROUTES

PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
TOKEN = {"token": {"type": "http", "scheme": "bearer"}}


def describe(app: FastAPI) -> None:
    """Replaces FastAPI's own description, in which errors have the media type of the answer they replace."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schema["components"]["securitySchemes"] = TOKEN
            for path, methods in schema["paths"].items():
                for method, operation in methods.items():
                    _correct(operation, is_open=(method.upper(), path) in OPEN_ROUTES)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _correct(operation: dict[str, Any], is_open: bool) -> None:
    operation["security"] = [] if is_open else [{name: []} for name in TOKEN]
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            response["content"] = PROBLEM
