"""A run's folder: its checkpoint, its settings, its log.

The checkpoint is a torch file read with `weights_only=True` (it holds an optimiser's nested state, which
safetensors cannot); weights leave a run as safetensors only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from dino_diffusion.device import device_name
from dino_diffusion.errors import ConfigurationError

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the folder's checkpoint; a kill at any moment leaves the old one or the new one, whole."""
    partial = folder / f"{CHECKPOINT}.partial"
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / CHECKPOINT)


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The folder's checkpoint, None if it has none. Raises ConfigurationError if it cannot be read."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: the checkpoint is damaged ({type(error).__name__}); delete it to start this run afresh."
        ) from error


def describe(folder: Path, settings: Any, device: torch.device) -> None:
    """Makes the run folder and notes settings, device and the code's git state in `run.json`."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    command = ["git", "describe", "--always", "--dirty"]
    git = (
        shutil.which("git")
        and subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        ).stdout.strip()
    )
    about = {
        "settings": dataclasses.asdict(settings),
        "git": git or "unknown",
        "torch": torch.__version__,
        "device": device_name(device),
    }
    (folder / "run.json").write_text(json.dumps(about, indent=1) + "\n")


def record(folder: Path, step: int, seconds: float, figures: dict[str, float]) -> None:
    """Adds a line to `log.jsonl`."""
    line = {"step": step, "seconds": round(seconds, 1), **{n: round(v, 5) for n, v in figures.items()}}
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
