"""The nearest training image: found, judged against other patients, and silent where no index is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dino_diffusion.errors import BundleError, ConfigurationError
from dino_diffusion.generation.nearest import (
    CHECK,
    SUSPICIOUS,
    Nearest,
    check_nearest,
    index_embedding,
    nearest_training_image,
    neighbours,
    warnings_of,
)
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.variants import generate
from dino_diffusion.models import ModelBundle
from dino_diffusion.models.training_index import FILE, MOST_BYTES, NEXT, REFERENCES, TrainingIndex
from dino_diffusion.radiograph import Radiograph
from tests.tiny import smooth_picture, tiny_bundle

PATIENTS = [f"p{number // 2}" for number in range(200)]


def embeddings(count: int = 200, width: int = 24, seed: int = 0) -> np.ndarray:
    """Two images a patient, nearly alike; different patients in random directions."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(count // 2, width)).repeat(2, axis=0)
    return (people + 0.01 * rng.normal(size=people.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """Trained on one known picture among random directions."""
    bundle = tiny_bundle()
    known = index_embedding(bundle, smooth_picture(5))
    others = embeddings(width=known.shape[1])
    return replace(bundle, training_index=TrainingIndex.of(np.concatenate([others, known]), [*PATIENTS, ""]))


def test_distances_survive_eight_bits() -> None:
    """To a few thousandths, a hundredth of what tells two patients apart."""
    real, queries = embeddings(400, 192), embeddings(20, 192, seed=1)
    index = TrainingIndex.of(real, [f"p{number // 2}" for number in range(400)])
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (real, queries)]
    expected = np.sort(1 - unit[1] @ unit[0].T, axis=1)
    distances, relative, places = index.nearest(queries)
    np.testing.assert_allclose(distances, expected[:, 0], atol=5e-3)
    np.testing.assert_allclose(relative, expected[:, 0] / expected[:, 1 : NEXT + 1].mean(axis=1), atol=0.01)
    assert (places // 2 == (unit[1] @ unit[0].T).argmax(axis=1) // 2).mean() > 0.9


def test_a_source_whose_images_are_all_alike_raises_no_alarm() -> None:
    """Distances within it are a tenth of those elsewhere, relative ones are as everywhere."""
    rng = np.random.default_rng(0)
    alike = np.ones(96) * 3 + rng.normal(size=(300, 96))
    index = TrainingIndex.of(
        np.concatenate([rng.normal(size=(300, 96)), alike[:200]]), [f"p{number}" for number in range(500)]
    )
    distances, relative, _ = index.nearest(alike[200:])
    elsewhere, _, _ = index.nearest(rng.normal(size=(50, 96)))
    assert np.median(distances) < 0.2 * np.median(elsewhere)
    assert np.mean([index.closer_than(float(value)) >= SUSPICIOUS for value in relative]) < 0.05


def test_the_reference_is_between_different_patients_alone() -> None:
    """A patient's own second image, at a distance near 0, does not count."""
    index = TrainingIndex.of(embeddings(), PATIENTS)
    assert index.reference.shape == (REFERENCES,)
    assert (np.diff(index.reference) >= 0).all()
    assert index.reference[0] > 0.3
    assert index.closer_than(0.0) == 100 and index.closer_than(2.0) == 0
    assert index.closer_than(float(np.median(index.reference))) == pytest.approx(50, abs=1)


def test_unknown_patients_are_indexed_and_no_reference() -> None:
    patients = [*PATIENTS[:120], *[""] * 80]
    some, all_known = (TrainingIndex.of(embeddings(), names) for names in (patients, PATIENTS))
    assert np.array_equal(some.codes, all_known.codes)
    assert not np.array_equal(some.reference, all_known.reference)


@pytest.mark.parametrize("patients", [[""] * 200, ["one"] * 200, [*PATIENTS[:50], *[""] * 150]])
def test_too_few_known_patients_make_no_index(patients: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="patient_id"):
        TrainingIndex.of(embeddings(), patients)


def test_many_images_fit_by_fewer_dimensions() -> None:
    count = MOST_BYTES // 100
    patients = [f"p{number}" for number in range(100)] + [""] * (count - 100)
    index = TrainingIndex.of(np.random.default_rng(0).normal(size=(count, 192)), patients)
    assert index.codes.shape == (count, 100)
    assert index.codes.nbytes <= MOST_BYTES
    distance, _, place = index.nearest(np.random.default_rng(0).normal(size=(3, 192)))
    np.testing.assert_allclose(distance, 0, atol=2e-3)
    assert place.tolist() == [0, 1, 2]


def test_a_copy_is_found_and_warned_of(bundle: ModelBundle) -> None:
    copied = nearest_training_image(bundle, smooth_picture(5))
    assert copied is not None and copied.image == 200
    assert copied.distance < 5e-3 and copied.closer_than == 100 and copied.suspicious
    assert "may be a copy" in copied.describe()


def test_an_honest_distance_is_not(bundle: ModelBundle) -> None:
    assert bundle.training_index is not None
    for relative in (1.0, float(np.median(bundle.training_index.reference))):
        found = Nearest(0.5, relative, bundle.training_index.closer_than(relative), 0)
        assert not found.suspicious and "copy" not in found.describe()


def test_each_generated_picture_says_how_close_it_is(bundle: ModelBundle) -> None:
    item = generate(bundle, steps=1)[0]
    noted = item.recipe.checks[CHECK]
    assert noted == check_nearest(bundle, item.pixels)[CHECK]
    assert set(noted) == {"distance", "relative", "closer_than", "image", "suspicious"}


def test_a_copy_warns_in_its_recipe(bundle: ModelBundle) -> None:
    recipe = Recipe("generate", bundle.id, {}, checks=check_nearest(bundle, smooth_picture(5)))
    assert len(warnings_of(recipe)) == 1
    assert warnings_of(replace(recipe, checks={})) == []


def test_a_bundle_without_an_index_makes_no_check() -> None:
    assert nearest_training_image(tiny_bundle(), smooth_picture(5)) is None
    assert generate(tiny_bundle(), steps=1)[0].recipe.checks == {}


def test_the_index_travels_with_the_bundle_and_leaves_its_name(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.save_pretrained(tmp_path / "with")
    back = ModelBundle.from_pretrained(tmp_path / "with")
    assert back.training_index is not None and bundle.training_index is not None
    assert np.array_equal(back.training_index.codes, bundle.training_index.codes)
    assert np.array_equal(back.training_index.reference, bundle.training_index.reference)
    assert back.id == tiny_bundle().id
    (tmp_path / "with" / FILE).unlink()
    assert ModelBundle.from_pretrained(tmp_path / "with").training_index is None


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_damaged_index_is_one_sentence(bundle: ModelBundle, tmp_path: Path, content: bytes | None) -> None:
    assert bundle.training_index is not None
    bundle.training_index.save(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(BundleError, match="index of training images is damaged"):
        TrainingIndex.load(tmp_path)


def test_neighbours_come_nearest_first(bundle: ModelBundle) -> None:
    others = [Radiograph.from_array(smooth_picture(seed), name=f"p{seed}") for seed in (5, 6, 7, 8)]
    found = neighbours(bundle, Radiograph.from_array(smooth_picture(7), name="own"), others, count=3)
    assert found[0]["name"] == "p7" and found[0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert [entry["similarity"] for entry in found] == sorted(
        (entry["similarity"] for entry in found), reverse=True
    )
    assert len(found) == 3 and found[0]["sha256"] == others[2].source.sha256
