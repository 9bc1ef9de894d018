"""Started by `accelerate launch`: trains the smoke autoencoder and notes what each process saw and has."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch

from dino_diffusion.training import autoencoder as part
from dino_diffusion.training.loop import make_accelerator, train
from dino_diffusion.training.settings import AutoencoderSettings, load_settings, recipe_path

torch.set_num_threads(1)
folder, pictures = Path(sys.argv[1]), sys.argv[2]
overrides = {
    "run.folder": str(folder / "run"),
    "data.path": pictures,
    "crop": 32,
    "linear_images": 4,
    # Ten pictures, two processes, batches of one: five steps are one epoch.
    "run.batch": 1,
    "run.steps": 5,
}
settings = load_settings(AutoencoderSettings, recipe_path("smoke/autoencoder"), overrides)
accelerator = make_accelerator()
trained = part.AutoencoderPart(settings)
seen: list[int] = []
original = trained.batches.stream.batch


def noted(step: int, size: int, rank: int = 0, processes: int = 1):  # type: ignore[no-untyped-def]
    indices = original(step, size, rank, processes)
    if step < settings.run.steps:
        seen.extend(int(index) for index in indices)
    return indices


trained.batches.stream.batch = noted  # type: ignore[method-assign]
figures = train(trained, settings.run, settings, True, accelerator)
digest = hashlib.sha256()
for value in trained.module.state_dict().values():
    digest.update(value.numpy().tobytes())
about = {"seen": seen, "weights": digest.hexdigest(), "processes": accelerator.num_processes}
(folder / f"{accelerator.process_index}.json").write_text(json.dumps(about))
