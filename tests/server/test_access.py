"""Who gets in, and what every answer carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from monailabel_app.server.app import create_app
from tests.server.conftest import TOKEN, Here, settings_for

ROUTES = [
    ("GET", "/info/"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/logs/"),
    ("GET", "/worklist"),
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("POST", "/infer/segment?image=chest1"),
    ("PUT", "/session/"),
    ("GET", "/datastore/"),
    ("PUT", "/datastore/label?image=chest1"),
    ("POST", "/activelearning/first"),
    ("POST", "/train/learn"),
    ("GET", "/auth/token/valid"),
    ("GET", "/nosuch"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("given", ["", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer"])
def test_nothing_without_the_token(here: Here, method: str, path: str, given: str) -> None:
    answer = here.request(method, path, headers={"Authorization": given})
    assert answer.status_code == 401 and "token" in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"


def test_health_and_login_are_open_and_tell_nothing_else(here: Here) -> None:
    nobody = {"Authorization": ""}
    assert here.get("/health", headers=nobody).json() == {"status": "ok"}
    assert here.get("/auth/", headers=nobody).json()["enabled"] is True
    for user in ("anna", ""):
        form = {"username": user, "password": TOKEN, "grant_type": "password"}
        given = here.post("/auth/token", data=form, headers=nobody)
        assert given.json() == {"access_token": TOKEN, "token_type": "bearer"}
    for password in ("", "wrong", TOKEN[:-1]):
        form = {"username": "anna", "password": password}
        assert here.post("/auth/token", data=form, headers=nobody).status_code == 401


def test_the_scheme_is_written_as_one_likes(here: Here) -> None:
    assert here.get("/auth/token/valid", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/nosuch", "/info/", "/worklist"])
def test_every_answer_carries_the_security_headers(here: Here, path: str) -> None:
    for answer in (here.get(path), here.get(path, headers={"Authorization": ""})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert len(answer.headers["x-request-id"]) == 12


def test_pages_of_other_origins_are_not_let_in_unless_named(tmp_path: Path) -> None:
    with Here(settings_for(tmp_path, cors=("https://viewer.example",))) as here:
        named = here.get("/info/", headers={"Origin": "https://viewer.example"})
        other = here.get("/info/", headers={"Origin": "https://evil.example"})
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        asked = here.options(
            "/jobs", headers={"Origin": "https://viewer.example", "Authorization": "", **ask}
        )
        refused = here.options(
            "/jobs", headers={"Origin": "https://evil.example", "Authorization": "", **ask}
        )
    assert named.headers["access-control-allow-origin"] == "https://viewer.example"
    assert "access-control-allow-origin" not in other.headers
    assert asked.status_code == 200 and refused.status_code == 400
    assert "access-control-allow-credentials" not in named.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:8000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_without_a_token_no_web_page_gets_in(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    with Here(settings_for(tmp_path, token=None)) as here:
        assert here.get("/info/", headers=headers).status_code == status
        assert here.get("/auth/").json()["enabled"] is False
        assert here.post("/auth/token", data={"password": "x"}).json()["access_token"] is None


def test_before_it_has_started_it_says_so(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    starting = TestClient(create_app(settings_for(tmp_path)), headers={"Authorization": f"Bearer {TOKEN}"})
    answer = starting.get("/info/")
    assert answer.status_code == 503 and "starting" in answer.json()["detail"]
