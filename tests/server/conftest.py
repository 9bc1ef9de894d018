"""Folders of small pictures, and the server in this process around the stand-in app."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="needs the optional part `server`")

from starlette.testclient import TestClient

from monailabel_app.server.app import configure_monailabel, create_app
from monailabel_app.server.settings import ServerSettings
from tests.server.stand_in import StandIn

TOKEN = "a-token-of-enough-letters"
IMAGES = ("chest1", "chest2", "chest3")


def make_studies(folder: Path, names: tuple[str, ...] = IMAGES, size: int = 24) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 255, (size, size + 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def make_label(path: Path, size: int = 24, value: int = 1) -> Path:
    pixels = np.zeros((size, size + 8), np.uint8)
    pixels[4:9, 4:9] = value
    Image.fromarray(pixels).save(path)
    return path


class Here(TestClient):
    """The server in this process. Sends the token with every request."""

    def __init__(self, settings: ServerSettings, instance: Any = None) -> None:
        configure_monailabel(settings)
        self.settings = settings
        self.instance = instance or StandIn(str(settings.app), settings.studies, dict(settings.conf))
        super().__init__(
            create_app(settings, self.instance),
            base_url="http://127.0.0.1:8000",
            raise_server_exceptions=False,
            headers={"Authorization": f"Bearer {settings.token}"} if settings.token else {},
        )

    def submit(self, steps: int = 1, image: str | None = "chest1", client: str = "me", **more: Any) -> Any:
        wanted = {"kind": "infer", "model": "segment", "image": image, "params": {"steps": steps}, **more}
        return self.post("/jobs", data={"request": json.dumps(wanted)}, headers={"X-Client-Id": client})


def settings_for(folder: Path, **more: Any) -> ServerSettings:
    studies = make_studies(folder / "studies")
    return ServerSettings(**{"studies": str(studies), "state": folder / "state", "token": TOKEN, **more})


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with Here(settings_for(tmp_path)) as client:
        yield client
