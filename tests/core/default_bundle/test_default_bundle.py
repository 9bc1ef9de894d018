"""The bundle that travels with the package, on its own samples and, where it is at hand, on real data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dino_diffusion.evaluation.segmentation import score_pair
from dino_diffusion.generation.variants import generate
from dino_diffusion.models import ModelBundle
from dino_diffusion.models.bundle import default_bundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import segment_lungs

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "core" / "dino_diffusion" / "samples"
DATA = ROOT.parent / "shared" / "data" / "cxr"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return ModelBundle.from_pretrained()


def test_it_keeps_within_its_size() -> None:
    files = [path for path in default_bundle().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60 * 10**6
    assert max(path.stat().st_size for path in files) <= 15 * 10**6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".png"}


def test_its_card_says_what_it_is(bundle: ModelBundle) -> None:
    card = bundle.card().lower()
    for word in ("research", "dice", "psnr", "kid", "known faults"):
        assert word in card, f"the model card does not speak of: {word}"


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_two_lungs_are_found_on_each_sample(bundle: ModelBundle, sample: Path) -> None:
    radiograph = Radiograph.read(sample)
    assert radiograph.source.synthetic, "a committed sample must be marked synthetic"
    result = segment_lungs(bundle, radiograph)
    labels = result.labelmap.labels
    columns = np.arange(labels.shape[1])
    centre = {value: ((labels == value).sum(0) * columns).sum() / (labels == value).sum() for value in (1, 2)}
    assert 0.05 < (labels == 1).mean() < 0.35 and 0.05 < (labels == 2).mean() < 0.35
    assert centre[1] < labels.shape[1] / 2 < centre[2]
    assert 0 <= result.uncertainty <= 1 and result.uncertainty_map.shape == labels.shape


def test_segmenting_twice_gives_the_same_labels(bundle: ModelBundle) -> None:
    radiograph = Radiograph.read(min(SAMPLES.glob("*.png")))
    first, second = (segment_lungs(bundle, radiograph).labelmap.labels for _ in range(2))
    assert (first == second).all()


def test_generated_radiographs_are_neither_constant_nor_alike(bundle: ModelBundle) -> None:
    first, second = generate(bundle, 2, seed=3, steps=6)
    assert first.pixels.std() > 0.08 and second.pixels.std() > 0.08
    assert np.abs(first.pixels - second.pixels).mean() > 0.02
    again = generate(bundle, 1, seed=3, steps=6)[0]
    assert np.allclose(first.pixels, again.pixels, atol=1e-4)


def test_lungs_of_real_radiographs(bundle: ModelBundle) -> None:
    if not DATA.is_dir():
        pytest.skip("the development data (../shared/data/cxr) is not here")
    with open(DATA / "metadata.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "dev"][::57]
    scores = []
    for row in rows:
        reference = _labels(DATA / row["mask"])
        labels = segment_lungs(bundle, Radiograph.read(DATA / row["image"])).labelmap.labels
        scores.append(score_pair(labels, reference, None).mean)
    assert np.mean(scores) > 0.78, f"mean Dice of {len(scores)} dev images: {np.mean(scores):.3f}"


def _labels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)
