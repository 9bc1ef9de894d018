"""Inpainting and the healthy twin with the bundle that travels with the package, on its own sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dino_diffusion.generation.library import find_concept
from dino_diffusion.generation.masks import EditMask
from dino_diffusion.generation.painting import Inpainting, InpaintSettings
from dino_diffusion.generation.twin import lungs_mask
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph

SAMPLES = Path(__file__).parents[3] / "core" / "dino_diffusion" / "samples"


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return ModelBundle.from_pretrained()


@pytest.fixture(scope="module")
def radiograph() -> Radiograph:
    return Radiograph.read(min(SAMPLES.glob("*.dcm")))


def test_it_really_edits_and_leaves_no_seam(bundle: ModelBundle, radiograph: Radiograph) -> None:
    lungs = lungs_mask(bundle, radiograph)
    rows, columns = np.indices(lungs.shape) / lungs.shape[0]
    row, column = np.argwhere(lungs).mean(0) / lungs.shape[0]
    mask = lungs & ((rows - row) ** 2 + (columns - column + 0.15) ** 2 < 0.12**2)
    assert mask.any()
    shared = Inpainting.of(bundle, radiograph, EditMask.of(radiograph, mask), (), InpaintSettings(steps=6))
    first, second = shared.candidates(2)
    view = shared.window.grey_to_model(radiograph.pixels)
    lost = float((shared.restored - view)[shared.window.map_to_model(mask) > 0.5].abs().mean())
    assert np.abs(first.pixels - radiograph.pixels)[mask].mean() > 3 * lost
    assert np.abs(first.pixels - second.pixels)[mask].mean() > lost
    assert first.stored[~mask].tobytes() == radiograph.stored[~mask].tobytes()
    rim = mask & ~np.roll(mask, 1, 1)
    step = np.abs(np.diff(first.pixels - radiograph.pixels, axis=1, prepend=0))[rim]
    assert step.mean() < 0.02, "the change begins with a step"


def test_a_painted_effusion_lies_at_the_bases_beside_healthy_from_the_same_noise(
    bundle: ModelBundle, radiograph: Radiograph
) -> None:
    edit = EditMask.of(radiograph, lungs_mask(bundle, radiograph))
    effusion, healthy = (
        Inpainting.of(bundle, radiograph, edit, [(find_concept(name), 1.0)], InpaintSettings(steps=6))
        .paint(0, 1)[0]
        .pixels
        for name in ("effusion", "healthy")
    )
    rows = np.flatnonzero(edit.inside.any(axis=1))
    upper, lower = edit.inside.copy(), edit.inside.copy()
    upper[rows[len(rows) // 3] :], lower[: rows[2 * len(rows) // 3]] = False, False
    denser = effusion - healthy
    assert denser[lower].mean() - denser[upper].mean() > 0.02
