"""Who may speak to the server: a bearer token, or, without one, programs of this machine alone. ASGI."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from monailabel_app.server.errors import TOO_LARGE
from monailabel_app.server.token import is_token

OPEN_ROUTES = {("GET", "/auth/"), ("GET", "/auth"), ("POST", "/auth/token"), ("GET", "/health")}
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}


class BearerToken:
    """Lets requests with the token through, and everybody to the routes that tell how to get in."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self.admits(scope)):
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        refusal = JSONResponse(
            {"detail": "Send the token that the server printed at its start: Authorization: Bearer TOKEN."},
            status_code=401,
            headers={"WWW-Authenticate": "Bearer"},
        )
        await refusal(scope, receive, send)

    def admits(self, scope: Scope) -> bool:
        if (scope["method"], route_path(scope)) in OPEN_ROUTES:
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and is_token(given.strip(), self.token)


class LoopbackOnly:
    """Without a token: no web page may reach the server through the browser of whoever sits here.

    A page of another site can send requests to 127.0.0.1, or point its own name at it; the first shows in
    the Origin header, the second in Host.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...] = ()) -> None:
        self.app, self.origins = app, set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self.admits(Headers(scope=scope)):
            return await self.app(scope, receive, send)
        refusal = JSONResponse(
            {"detail": "This server runs without a token and answers programs of its own machine only."},
            status_code=403,
        )
        await refusal(scope, receive, send)

    def admits(self, headers: Headers) -> bool:
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name in LOOPBACK_NAMES and headers.get("origin", "") in {"", *self.origins}


def route_path(scope: Scope) -> str:
    """The path below a reverse proxy's prefix."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(prefix) or "/"


class BodyLimit:
    """Refuses a body that is announced as too large, before any of it is read; FastAPI counts the others."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = Headers(scope=scope).get("content-length", "0") if scope["type"] == "http" else "0"
        if not (announced.isascii() and announced.isdigit()) or int(announced) > self.most:
            return await JSONResponse({"detail": TOO_LARGE}, status_code=413)(scope, receive, send)
        await self.app(scope, receive, send)


class SecurityHeaders:
    """On every answer: what is served here is data, to be shown by no page and kept in no cache."""

    HEADERS = (
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message):  # type: ignore[no-untyped-def]
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in self.HEADERS if name not in given]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
