"""A tube painted into shipped samples: learnt from one, found on others, in which it leans otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import observe
from dino_diffusion.segmentation.learn import learn
from dino_diffusion.segmentation.learnt import segment_with

TUBE = 30


def with_tube(sample: Path, lean: float) -> tuple[Radiograph, np.ndarray]:
    """A film with a tube of two walls in its upper middle, and its mask."""
    pixels = Radiograph.read(sample).pixels.copy()
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] / pixels.shape[0]
    off = np.abs(columns - 0.5 - lean * (rows - 0.16))
    inside = (off < 0.02) & (rows > 0.06) & (rows < 0.26)
    pixels[inside] += 0.05
    pixels[inside & (off > 0.012)] += 0.15
    return Radiograph.from_array(pixels.clip(0, 1), name=sample.name), TUBE * inside.astype(np.uint8)


def test_a_tube_is_learnt_from_one_film_and_found_on_others(repository: Path) -> None:
    bundle, samples = ModelBundle.from_pretrained(), repository / "core" / "dino_diffusion" / "samples"
    tube = learn(bundle, [with_tube(samples / "synthetic-1.png", 0.0)], "tube")
    assert tube.close_up is not None
    for sample, lean, whole_view in (("synthetic-2.png", 0.25, 0.82), ("synthetic-3.png", -0.2, 0.67)):
        film, mask = with_tube(samples / sample, lean)
        found = segment_with(bundle, observe(bundle, film), [tube]).labelmap.labels
        shared = ((found == TUBE) & (mask == TUBE)).sum()
        dice = 2 * shared / ((found == TUBE).sum() + (mask == TUBE).sum())
        assert dice > whole_view + 0.05, "looked at closely it is found better than on the whole view"
