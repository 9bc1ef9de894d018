"""The app in this process, around a tiny model and a folder of smooth pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("monailabel", reason="needs the optional part `server`")

from dino_diffusion.errors import Cancelled
from dino_diffusion.generation.concept import Concept, model_id
from monailabel_app import progress
from monailabel_app.lib.engine import Engine
from monailabel_app.main import DinoDiffusionApp
from tests.tiny import smooth_picture, tiny_bundle

SHAPE = (120, 100)
IMAGES = tuple(f"film{number}" for number in range(4))

MakeApp = Callable[..., DinoDiffusionApp]


class Heard:
    """A listener that keeps what it hears and, when told so, stops the work at its n-th report."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.reports: list[tuple[float, str, Image.Image | None]] = []
        self.stop_at = stop_at

    def report(self, done: float, message: str = "", preview: Image.Image | None = None) -> None:
        self.reports.append((done, message, preview))
        if self.stop_at is not None and len(self.reports) >= self.stop_at:
            raise Cancelled("stopped by the test")

    @property
    def shares(self) -> list[float]:
        return [done for done, _, _ in self.reports]


@contextmanager
def listening(heard: Heard, folder: Path | None = None) -> Iterator[Heard]:
    """What a job of the server is to the tasks."""
    tokens = progress.current.set(heard), progress.folder.set(folder)
    try:
        yield heard
    finally:
        progress.current.reset(tokens[0])
        progress.folder.reset(tokens[1])


@pytest.fixture(autouse=True)
def temporary_results(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI Label deletes a result's file once it is sent; here no one does."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(tiny_bundle())


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Four pictures as PNG."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number, name in enumerate(IMAGES):
        write_picture(folder / f"{name}.png", number)
    return folder


@pytest.fixture
def make_app(tmp_path: Path, studies: Path, engine: Engine) -> Iterator[MakeApp]:
    """Starts the app, again if called again, over the same folders."""
    started: list[DinoDiffusionApp] = []
    state = tmp_path / "state"
    write_concepts(engine, state / "concepts")

    def make(folder: Path = studies) -> DinoDiffusionApp:
        app = DinoDiffusionApp(str(tmp_path / "app"), str(folder), {"state": str(state)}, engine)
        started.append(app)
        return app

    yield make
    for app in started:
        app.datastore()._observer.stop()  # type: ignore[attr-defined]


@pytest.fixture
def app(make_app: MakeApp) -> DinoDiffusionApp:
    return make_app()


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def write_picture(path: Path, seed: int, shape: tuple[int, int] = SHAPE) -> Path:
    Image.fromarray((smooth_picture(seed, *shape) * 255).astype(np.uint8)).save(path)
    return path


def write_concepts(engine: Engine, folder: Path) -> None:
    """Two concepts of the tiny model, which the shipped ones do not fit."""
    folder.mkdir(parents=True, exist_ok=True)
    width = engine.bundle.denoiser.config.token_width
    for seed, name in enumerate(("normal", "opacity")):
        vectors = 3 * torch.randn(2, width, generator=torch.Generator().manual_seed(seed))
        Concept(name, vectors, model_id(engine.bundle)).save(folder / f"{name}.safetensors")


def ellipse(shape: tuple[int, int] = SHAPE, row: float = 0.5, column: float = 0.4) -> np.ndarray:
    """`(H, W)` bool."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return ((rows / shape[0] - row) / 0.2) ** 2 + ((columns / shape[1] - column) / 0.15) ** 2 < 1


def write_mask(path: Path, values: np.ndarray | None = None) -> Path:
    given = ellipse().astype(np.uint8) if values is None else values
    Image.fromarray(given.astype(np.uint8)).save(path)
    return path


def submit(
    app: DinoDiffusionApp,
    image: str,
    values: np.ndarray,
    folder: Path,
    names: dict[str, int] | None = None,
    tag: str = "final",
    absent: Sequence[str] = (),
) -> None:
    """As the route `PUT /datastore/label` does."""
    info = [{"name": name, "idx": value} for name, value in (names or {"Heart": 1}).items()]
    file = write_mask(folder / "submitted.png", values)
    app.datastore().save_label(image, str(file), tag, {"label_info": info, "label_absent": list(absent)})
    app.on_save_label(image, image)
