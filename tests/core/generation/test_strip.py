"""A strip: same patient and noise, ends that are the concepts', recipes, and what is measured along it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dino_diffusion.errors import Cancelled, ConceptError, ConfigurationError
from dino_diffusion.generation import strip as module
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.generation.strip import Strip, StripPath, StripSettings, again, strip
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SamplingStep
from dino_diffusion.segmentation.measures import cardiothoracic_ratio, opacity
from tests.tiny import smooth_picture, tiny_bundle

FAST = {"frames": 3, "steps": 4}


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def radiograph() -> Radiograph:
    return Radiograph.from_array(smooth_picture(3, 90, 70))


@pytest.fixture(scope="module")
def concepts(bundle: ModelBundle) -> tuple[Concept, Concept]:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        Concept(name, torch.randn(3, 32, generator=generator), model_id(bundle)) for name in ("a", "b")
    )
    return first.opposed_to([second]), second.opposed_to([first])


@pytest.fixture(autouse=True)
def simple_lungs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left and right half: the tiny bundle knows no lungs."""

    def halves(bundle: ModelBundle, pixels: np.ndarray, callback: object) -> np.ndarray:
        labels = np.ones(pixels.shape, np.uint8)
        labels[:, pixels.shape[1] // 2 :] = 2
        return labels

    monkeypatch.setattr(module, "_lungs", halves)


def test_frames_lie_on_the_radiographs_aspect_and_change_gradually(
    bundle: ModelBundle, radiograph: Radiograph, concepts: tuple[Concept, Concept]
) -> None:
    made = strip(StripPath.of(bundle, radiograph, *concepts, StripSettings(frames=5, steps=4)))
    assert made.shares == [0, 0.25, 0.5, 0.75, 1]
    pictures = np.stack([frame.pixels for frame in made.frames])
    assert pictures.shape == (5, 64, 50)
    steps = np.abs(np.diff(pictures, axis=0)).mean((1, 2))
    assert (steps > 0).all()
    assert steps.max() < np.abs(pictures[-1] - pictures[0]).mean()


def test_the_ends_know_nothing_of_the_other_concept(
    bundle: ModelBundle, radiograph: Radiograph, concepts: tuple[Concept, Concept]
) -> None:
    a, b = concepts
    forth, back = (
        StripPath.of(bundle, radiograph, *pair, StripSettings(**FAST)) for pair in ((a, b), (b, a))
    )
    assert np.array_equal(forth.frame(0).pixels, back.frame(2).pixels)
    assert np.allclose(forth.frame(1).pixels, back.frame(1).pixels, atol=1e-4)


def test_less_strength_stays_closer_to_the_radiograph(
    bundle: ModelBundle, radiograph: Radiograph, concepts: tuple[Concept, Concept]
) -> None:
    view = radiograph.model_view(bundle.size)
    restored = bundle.autoencoder.decode(bundle.autoencoder.encode(view.pixels))[0, 0].numpy()
    restored = restored[view.square.inside]
    weak, strong = (
        StripPath.of(bundle, radiograph, *concepts, StripSettings(strength=strength, **FAST)).frame(0)
        for strength in (0.2, 0.9)
    )
    assert np.abs(weak.pixels - restored).mean() < np.abs(strong.pixels - restored).mean()


def test_the_recipe_replays_to_the_bit(
    bundle: ModelBundle, radiograph: Radiograph, concepts: tuple[Concept, Concept], tmp_path: Path
) -> None:
    frame = StripPath.of(bundle, radiograph, *concepts, StripSettings(seed=5, **FAST)).frame(1)
    recipe = Recipe.from_json(frame.recipe.to_json())
    inputs = {"image": radiograph, "from": concepts[0], "to": concepts[1]}
    assert np.array_equal(again(recipe, tiny_bundle(), inputs).pixels, frame.pixels)
    with pytest.raises(ConfigurationError, match="content differs"):
        again(recipe, bundle, inputs | {"to": concepts[0]})
    with pytest.raises(ConfigurationError, match="missing"):
        again(recipe, bundle, {"image": radiograph})


def test_a_concept_of_another_model_is_refused(
    radiograph: Radiograph, concepts: tuple[Concept, Concept]
) -> None:
    with pytest.raises(ConceptError, match="learn it again"):
        StripPath.of(tiny_bundle(seed=1), radiograph, *concepts)


def test_the_callback_counts_every_step_and_can_cancel(
    bundle: ModelBundle, radiograph: Radiograph, concepts: tuple[Concept, Concept]
) -> None:
    path = StripPath.of(bundle, radiograph, *concepts, StripSettings(**FAST))
    seen: list[SamplingStep] = []
    strip(path, seen.append)
    assert len(seen) == 3 * path.steps
    with pytest.raises(Cancelled):
        strip(path, lambda step: False)


@pytest.mark.parametrize(
    "settings",
    [{"frames": 1}, {"strength": 0}, {"strength": 1.1}, {"guidance": 0}, {"steps": 0}, {"sampler": "none"}],
)
def test_impossible_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigurationError):
        StripSettings(**settings)


def test_trends() -> None:
    made = Strip([], [0, 0.5, 1], [0.1, 0.2, 0.4], [0.5, None, 0.4])
    assert made.trends == {"opacity": pytest.approx(1.0), "cardiothoracic_ratio": None}


# --- what is measured ------------------------------------------------------------------------------


def chest(heart: int) -> np.ndarray:
    """Two lungs as boxes of 30 columns at 10..39 and 60..89; a heart bulges `heart` columns to the left."""
    labels = np.zeros((100, 100), np.uint8)
    labels[20:80, 10:40], labels[20:80, 60:90] = 1, 2
    labels[55:75, 60 : 60 + heart] = 0
    return labels


def test_the_hearts_width_over_the_chests() -> None:
    assert cardiothoracic_ratio(chest(0)) == pytest.approx(20 / 80)
    assert cardiothoracic_ratio(chest(10)) == pytest.approx(30 / 80)


def test_a_thin_angle_beside_no_heart_does_not_count() -> None:
    labels = chest(0)
    labels[80:90, 10:13], labels[80:90, 87:90] = 1, 2
    assert cardiothoracic_ratio(labels) == pytest.approx(20 / 80)


def test_without_two_lungs_there_is_no_ratio() -> None:
    for label in (1, 2):
        labels = chest(0)
        labels[labels == label] = 0
        assert cardiothoracic_ratio(labels) is None


def test_opacity_is_the_mean_inside() -> None:
    labels = chest(0)
    assert opacity(np.where(labels > 0, 0.25, 1.0), labels) == pytest.approx(0.25)
    assert opacity(np.ones((4, 4)), np.zeros((4, 4), np.uint8)) is None
