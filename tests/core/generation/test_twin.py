"""The healthy twin: which part is painted, and what of the difference counts as more than chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dino_diffusion.codes import FIRST_LEARNT
from dino_diffusion.errors import RadiographError
from dino_diffusion.generation import twin as twins
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.generation.painting import Inpainting, InpaintSettings
from dino_diffusion.generation.twin import compare, healthy_twin, lungs_mask, prepare
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Labelmap, Radiograph
from tests.core.cli.conftest import half_and_half
from tests.tiny import smooth_picture, tiny_bundle

SHAPE = (160, 128)
FAST = InpaintSettings(strength=0.5, steps=2)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def healthy(bundle: ModelBundle) -> Concept:
    return Concept("healthy", torch.zeros(1, bundle.denoiser.config.token_width), model_id(bundle))


@pytest.fixture(scope="module")
def radiograph() -> Radiograph:
    """With room above its brightest grey for a lesion."""
    return Radiograph.from_array(0.2 + 0.5 * smooth_picture(3, *SHAPE), (2.5, 2.5), "film")


def test_without_a_mask_both_lungs_are_painted(
    bundle: ModelBundle, radiograph: Radiograph, healthy: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "segment_lungs", half_and_half)
    twin = healthy_twin(bundle, radiograph, healthy, candidates=2, settings=FAST)
    lungs = half_and_half(bundle, radiograph).labelmap.labels > 0
    painted = twin.candidates[0].mask
    assert painted[lungs].all() and not painted.all() and len(twin.candidates) == 2
    assert np.array_equal(twin.candidates[0].stored[~painted], radiograph.stored[~painted])
    assert twin.difference.shape == twin.chance.shape == SHAPE
    assert not twin.labelmap.labels[~painted].any()


def test_a_white_lung_is_where_the_other_ones_mirror_image_is(
    bundle: ModelBundle, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[40:120, 10:50] = 1
    one = replace(half_and_half(bundle, radiograph), labelmap=Labelmap(labels, radiograph))
    monkeypatch.setattr(twins, "segment_lungs", lambda *_: one)
    mask = lungs_mask(bundle, radiograph)
    assert mask[80, 20] and mask[80, SHAPE[1] - 20] and not mask[80, SHAPE[1] // 2]


def test_no_lung_is_a_sentence(
    bundle: ModelBundle, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = replace(
        half_and_half(bundle, radiograph), labelmap=Labelmap(np.zeros(SHAPE, np.uint8), radiograph)
    )
    monkeypatch.setattr(twins, "segment_lungs", lambda *_: nothing)
    with pytest.raises(RadiographError, match="no lung was found"):
        lungs_mask(bundle, radiograph)


def with_twins(shared: Inpainting, twin_pixels: list[np.ndarray]) -> twins.Twin:
    """`compare` with twins that are known."""
    made = shared.candidates(1)[0]
    return compare(shared, [replace(made, stored=pixels.astype(np.float32)) for pixels in twin_pixels])


def test_a_lesion_that_every_twin_lacks_is_found_where_it_is(
    bundle: ModelBundle, radiograph: Radiograph, healthy: Concept
) -> None:
    clean = radiograph.pixels
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    lesion = (rows - 60) ** 2 + (columns - 40) ** 2 < 20**2
    sick = Radiograph.from_array(clean + 0.25 * lesion.astype(np.float32), radiograph.spacing_mm)
    shared = prepare(bundle, sick, healthy, np.ones(SHAPE, bool), settings=FAST)
    rng = np.random.default_rng(0)
    # The tiny autoencoder's own losses would hide it.
    shared = replace(shared, restored=shared.window.grey_to_model(sick.pixels))
    found = with_twins(shared, [clean + rng.normal(0, 0.02, SHAPE).astype(np.float32) for _ in range(4)])
    assert [region.label for region in found.regions] == [FIRST_LEARNT]
    region, marked = found.regions[0], found.labelmap.labels == FIRST_LEARNT
    assert 0.15 < region.difference < 0.25 and "denser" in region.name
    assert (marked & lesion).sum() > 0.7 * lesion.sum() and (marked & lesion).sum() > 0.7 * marked.sum()
    assert region.area_mm2 == pytest.approx(marked.sum() * 2.5**2)
    assert found.labelmap.names == {FIRST_LEARNT: region.name}


def test_what_twins_disagree_about_is_no_region(
    bundle: ModelBundle, radiograph: Radiograph, healthy: Concept
) -> None:
    shared = prepare(bundle, radiograph, healthy, np.ones(SHAPE, bool), settings=FAST)
    brighter, darker = radiograph.pixels + 0.3, radiograph.pixels - 0.1
    assert with_twins(shared, [brighter, darker]).regions == []


def test_a_twin_is_the_same_again_and_takes_two_candidates(
    bundle: ModelBundle, radiograph: Radiograph, healthy: Concept
) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[40:90, 20:60] = True
    first, again = (
        healthy_twin(bundle, radiograph, healthy, mask, candidates=1, settings=FAST) for _ in range(2)
    )
    assert len(first.candidates) == 2
    assert np.array_equal(first.difference, again.difference)
    assert first.candidates[0].recipe == again.candidates[0].recipe
