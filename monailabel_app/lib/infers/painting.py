"""What the tasks that paint share: progress with previews, and their candidates as files and JSON."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_diffusion.device import inference
from dino_diffusion.generation.nearest import warnings_of
from dino_diffusion.generation.painting import Inpainted
from dino_diffusion.generation.placed import on_grid, placed_recipe
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.sampled import BATCH_ON_GPU, Synthetic
from dino_diffusion.generation.save_inpainted import save_inpainted
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SamplingStep
from monailabel_app import progress
from monailabel_app.lib.infers.task import Settings
from monailabel_app.lib.results import preview, result_path, write_synthetic

SECONDS_BETWEEN_PREVIEWS = 1.0
"""A preview costs about a third of a step."""

PAINTED = 0.9
"""Share of the work that is done when the last step is."""

ONE_ONLY = "Only the first of the candidates comes this way; ask for more of them as a job (POST /jobs)."


class Steps:
    """Hears every sampling step of `pictures` with `steps` each; the listener may stop it from there.

    `show`: pixels `(H, W)` in [0, 1] of a step's estimate. `start`: share of the work that is done before.
    """

    def __init__(
        self, pictures: int, steps: int, show: Callable[[torch.Tensor], np.ndarray], start: float = 0.0
    ) -> None:
        self.total, self.show, self.start = pictures * steps, show, start
        self.pictures, self.steps = pictures, steps
        self.done, self.shown = 0, -float("inf")

    def __call__(self, step: SamplingStep) -> None:
        """One step of one batch. Lets Cancelled through."""
        self.done += len(step.estimate)
        picture = None
        if progress.heard() and time.monotonic() - self.shown >= SECONDS_BETWEEN_PREVIEWS:
            picture = preview(self.show(step.estimate))
            self.shown = time.monotonic()
        number = min(self.pictures, 1 + (self.done - 1) // self.steps)
        said = f"Painting {number} of {self.pictures}" if self.pictures > 1 else "Painting"
        share = min(1.0, self.done / self.total)
        progress.report(self.start + (PAINTED - self.start) * share, said, picture)


def whole_pictures(bundle: ModelBundle) -> Callable[[torch.Tensor], np.ndarray]:
    """For `Steps`: what an estimate of a whole picture looks like."""

    def show(estimate: torch.Tensor) -> np.ndarray:
        with inference(bundle.device):
            return bundle.autoencoder.decode(estimate[:1])[0, 0].float().cpu().numpy()

    return show


def asked_for(candidates: int) -> tuple[int, list[str]]:
    """How many to make, and what to say about it: without a job's folder there is a place for one only."""
    if candidates > 1 and progress.folder.get() is None:
        return 1, [ONE_ONLY]
    return candidates, []


def at_once(bundle: ModelBundle) -> int:
    """Pictures in one batch: candidates are written as soon as they are there."""
    return 1 if bundle.device.type == "cpu" else BATCH_ON_GPU


def save_candidate(item: Inpainted, number: int, ending: str) -> tuple[Path, Settings]:
    """An edit with mask and recipe; its file, and its entry for `params`."""
    name = f"candidate-{number}"
    folder = progress.folder.get()
    if folder is not None:
        image, mask, recipe = save_inpainted(item, folder / f"{name}{ending}")
        return image, entry(number, item.recipe, image=image.name, mask_id=mask.name, recipe_id=recipe.name)
    with tempfile.TemporaryDirectory() as temporary:
        written = save_inpainted(item, Path(temporary) / f"{name}{ending}")
        path = result_path(name, ending)
        shutil.move(written[0], path)
    return path, entry(number, item.recipe)


def save_whole(
    item: Synthetic, radiograph: Radiograph, size: int, number: int, ending: str, **about: Any
) -> tuple[Path, Settings]:
    """A whole picture on the radiograph's grid, with its recipe; its file, and its entry for `params`."""
    recipe = placed_recipe(item, radiograph)
    path = result_path(f"candidate-{number}", ending)
    written = write_synthetic(radiograph, on_grid(item, radiograph, size), path, recipe)
    names = {name: file.name for name, file in zip(("image", "recipe_id"), written, strict=False)}
    return written[0], entry(number, recipe, **(names if progress.folder.get() else {}), **about)


def entry(number: int, recipe: Recipe, **files: Any) -> Settings:
    """One candidate, ready for JSON. `image`, `mask_id` and `recipe_id` are names of the job's files."""
    return {"id": number, "recipe": recipe.to_dict(), "warnings": warnings_of(recipe), **files}


def result(candidates: list[Settings], warnings: list[str], **more: Any) -> Settings:
    """The params of a painted result; without labels for stock clients to import."""
    said = [*warnings, *(w for candidate in candidates for w in candidate["warnings"] if w not in warnings)]
    return {"label_names": {}, "synthetic": True, "candidates": candidates, "warnings": said, **more}
