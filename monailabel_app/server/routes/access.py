"""How stock clients log in, and whether the server is there. All but the last answer without a token."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException

from monailabel_app.server.context import Context
from monailabel_app.server.token import is_token

router = APIRouter(tags=["Access"])


@router.get("/health", summary="Whether the server answers")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/auth/", summary="Whether a token is needed")
@router.get("/auth", include_in_schema=False)
async def auth(server: Context) -> dict[str, Any]:
    return {"enabled": server.settings.token is not None, "client_id": "monailabel-app", "realm": ""}


@router.post("/auth/token", summary="Log in: any user name, the token as password")
async def token(
    server: Context, password: Annotated[str, Form()] = "", username: Annotated[str, Form()] = ""
) -> dict[str, str | None]:
    expected = server.settings.token
    if expected is None:
        return {"access_token": None, "token_type": None}
    if not is_token(password, expected):
        raise HTTPException(401, "The password is the token that the server printed at its start.")
    return {"access_token": expected, "token_type": "bearer"}


@router.get("/auth/token/valid", summary="Whether the sent token is the right one")
async def valid() -> dict[str, Any]:
    return {"username": "annotator", "email": None, "name": None, "roles": []}
