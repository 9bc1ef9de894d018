"""The command line in this process, on a tiny random bundle, with a stand-in where learnt lungs would be."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dino_diffusion.cli.app import app
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Labelmap, Radiograph
from dino_diffusion.segmentation.lungs import LungSegmentation
from dino_diffusion.view import ModelView
from dino_diffusion.view_report import PROPER
from tests.tiny import saved_tiny_bundle, smooth_picture

Command = Callable[..., Result]


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def command() -> Command:
    """`command("segment", path, ...)`; every argument may be anything that prints as itself."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def half_and_half(bundle: ModelBundle | None, radiograph: Radiograph, seed: int = 0) -> LungSegmentation:
    """Right lung: the left quarter of the picture; left lung: the right half."""
    height, width = radiograph.shape
    labels = np.zeros((height, width), np.uint8)
    labels[:, : width // 4], labels[:, width // 2 :] = 1, 2
    doubt = np.zeros(labels.shape, np.float32)
    warnings = ("The two lungs differ much in size.",)
    return LungSegmentation(Labelmap(labels, radiograph), 0.25, doubt, PROPER, warnings)


@dataclass(frozen=True)
class FoundHalves:
    """What `find_lungs` returns, for other processes too."""

    negative: bool = False

    def outlined(self, radiograph: Radiograph, view: ModelView) -> LungSegmentation:
        return half_and_half(None, radiograph)


def find_halves(bundle: ModelBundle, views: Sequence[ModelView], negative: object) -> list[FoundHalves]:
    return [FoundHalves() for _ in views]


@pytest.fixture
def simple_lungs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Lungs that are known beforehand: these tests are about files and words, not about quality."""
    module = importlib.import_module("dino_diffusion.segmentation.lungs")
    monkeypatch.setattr(module, "segment_lungs", half_and_half)
    monkeypatch.setattr(module, "find_lungs", find_halves)
    return module


@pytest.fixture
def radiographs(tmp_path: Path) -> Path:
    """A folder of three pictures that are no squares."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        save_picture(folder / f"{name}.png", seed)
    return folder


def save_picture(path: Path, seed: int) -> Path:
    Image.fromarray((smooth_picture(seed, 48, 40) * 255).clip(0, 255).astype(np.uint8)).save(path)
    return path
