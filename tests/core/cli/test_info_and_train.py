"""`info`, `train` and the root options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from dino_diffusion import __version__
from dino_diffusion.cli.train import parse_override
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.models.bundle import PARTS

Command = Callable


def test_version(command: Command) -> None:
    assert command("--version").stdout.strip() == __version__


def test_info_for_a_person(command: Command, bundle_folder: Path) -> None:
    said = command("info", "--bundle", bundle_folder).stdout
    for part in PARTS:
        assert part in said
    assert "# Tiny bundle" in said
    assert "device: " in said


def test_info_json(command: Command, bundle_folder: Path) -> None:
    document = json.loads(command("info", "--bundle", bundle_folder, "--json", "--device", "cpu").stdout)
    assert document["device"] == "cpu"
    bundle = document["bundle"]
    assert len(bundle["id"]) == 16
    assert bundle["size"] == 64
    files = [path for path in bundle_folder.rglob("*") if path.is_file()]
    assert bundle["bytes"] == sum(path.stat().st_size for path in files)
    assert all(part["parameters"] > 0 and part["bytes"] > 0 for part in bundle["parts"].values())
    assert document["packages"]["torch"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run.steps=500", ("run.steps", 500)),
        ("run.lr=1e-4", ("run.lr", 1e-4)),
        ("data.path=some/folder", ("data.path", "some/folder")),
        ('data.path="true"', ("data.path", "true")),
        ("sizes=[128, 256]", ("sizes", [128, 256])),
        ("residual_encoder=false", ("residual_encoder", False)),
        ("data.path=a=b", ("data.path", "a=b")),
    ],
)
def test_a_setting_is_written_as_toml_writes_it(text: str, expected: tuple[str, object]) -> None:
    assert parse_override(text) == expected


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="name=value"):
        parse_override("run.steps")


def test_train_passes_everything_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    module = ModuleType("dino_diffusion.training.run")

    def train_part(*arguments: object) -> dict[str, object]:
        calls.append(arguments)
        return {"weights": "runs/x/weights"}

    module.train_part = train_part  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    done = command(
        "train",
        "denoiser",
        "smoke/denoiser",
        "--init",
        "old",
        "--set",
        "run.steps=5",
        "--set",
        "run.seed=2",
        "-q",
    )
    assert done.exit_code == 0, done.output
    assert calls == [("denoiser", "smoke/denoiser", "old", {"run.steps": 5, "run.seed": 2}, True)]


def test_only_the_three_parts_can_be_trained(command: Command) -> None:
    done = command("train", "prior", "smoke/denoiser")
    assert done.exit_code == 2
    assert "denoiser" in done.stderr
