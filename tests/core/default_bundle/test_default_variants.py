"""Variants and their replay with the bundle that travels with the package, on its own samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dino_diffusion.generation.nearest import CHECK, index_embedding
from dino_diffusion.generation.replay import is_same, replay
from dino_diffusion.generation.save import save_synthetic
from dino_diffusion.generation.variants import Variation, generate
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph

SAMPLES = sorted((Path(__file__).parents[3] / "core" / "dino_diffusion" / "samples").glob("*.*"))


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return ModelBundle.from_pretrained()


def test_less_strength_stays_nearer_to_the_original(bundle: ModelBundle) -> None:
    original = Radiograph.read(SAMPLES[0])
    own = original.model_view(bundle.size).pixels[0, 0].numpy()
    changes = [
        np.abs(generate(bundle, like=Variation(original, strength=strength), steps=6)[0].pixels - own).mean()
        for strength in (0.2, 1.0)
    ]
    assert changes[0] < 0.6 * changes[1]


def test_a_blend_replays_to_the_bit_from_the_file_it_was_written_to(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    like, other = SAMPLES[:2]
    variation = Variation(Radiograph.read(like), (Radiograph.read(other),), (0.4,), strength=0.7, jitter=0.2)
    item = generate(bundle, like=variation, seed=5, steps=4)[0]
    image, _ = save_synthetic(item, tmp_path / "blend.dcm")
    recipe = Radiograph.read(image).source.synthetic
    assert recipe == item.recipe.to_dict()
    again = replay(item.recipe, ModelBundle.from_pretrained(), {"like": like, "and": other})
    assert is_same(again, item.recipe) and np.array_equal(again.pixels, item.pixels)


def test_a_blend_lies_between_its_originals(bundle: ModelBundle) -> None:
    a, b = (Radiograph.read(path) for path in SAMPLES[:2])
    ends = [index_embedding(bundle, radiograph.pixels)[0] for radiograph in (a, b)]
    blend = index_embedding(bundle, generate(bundle, like=Variation(a, (b,)), steps=6)[0].pixels)[0]
    others = index_embedding(bundle, Radiograph.read(SAMPLES[2]).pixels)[0]

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    assert min(cosine(blend, end) for end in ends) > cosine(blend, others)


def test_each_picture_is_compared_with_the_training_images(bundle: ModelBundle) -> None:
    if bundle.training_index is None:
        pytest.skip("the installed bundle carries no index of its training images yet")
    noted = generate(bundle, steps=2)[0].recipe.checks[CHECK]
    assert 0 < noted["distance"] < 2 and 0 <= noted["closer_than"] <= 100
