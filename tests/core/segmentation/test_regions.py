"""Regions on demand: nested, on the radiograph's own grid, the same every time, from one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dino_diffusion.errors import Cancelled, ConfigurationError
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import lungs_of, observe, segment_lungs
from dino_diffusion.segmentation.regions import MOST, Regions, regions
from tests.tiny import smooth_picture, tiny_bundle

GRANULARITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


def radiograph(height: int = 150, width: int = 110) -> Radiograph:
    return Radiograph.from_array(smooth_picture(3, height, width))


@pytest.fixture(scope="module")
def session(bundle: ModelBundle) -> Regions:
    return regions(bundle, radiograph())


SHAPES = [(64, 64), (150, 110), (40, 300), (20, 16), (16, 900), (16, 2400)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pixel_belongs_to_one_region_and_coarser_ones_unite_finer_ones(
    bundle: ModelBundle, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dino_diffusion.segmentation.regions.WORKING_SIDE", 200
    )  # so that the last ones count as large
    found = regions(bundle, radiograph(*shape))
    coarser = np.ones(shape, np.uint8)
    for granularity in GRANULARITIES:
        labels = found.labels(granularity)
        assert labels.shape == shape and labels.dtype == np.uint8
        assert set(np.unique(labels)) == set(range(1, found.count(granularity) + 1))
        pairs = np.unique(np.stack([labels.ravel(), coarser.ravel()]), axis=1)
        assert len(pairs[0]) == found.count(granularity), "a finer region lies in two coarser ones"
        coarser = labels


def test_the_region_under_a_pixel_is_the_one_of_the_labels(session: Regions) -> None:
    for granularity in GRANULARITIES:
        labels = session.labels(granularity)
        for row, column in ((0, 0), (75, 60), (149, 109)):
            region = session.at(row, column, granularity)
            assert (region == (labels == labels[row, column])).all()
    same = session.node_at(75, 60) == session.node_at(76, 60)
    assert same == bool(session.at(75, 60)[76, 60])


def test_more_granularity_is_more_regions(session: Regions) -> None:
    counts = [session.count(granularity) for granularity in GRANULARITIES]
    assert counts == sorted(counts) and counts[0] < counts[-1] <= MOST


def test_the_same_radiograph_gives_the_same_regions(bundle: ModelBundle, session: Regions) -> None:
    again = regions(bundle, radiograph())
    assert (again.pieces == session.pieces).all() and (again.tree.parents == session.tree.parents).all()


def test_an_observation_gives_the_same_regions_with_and_without_attention(
    bundle: ModelBundle, session: Regions
) -> None:
    for attention in (False, True):
        observation = observe(bundle, radiograph(), attention=attention)
        assert bool(observation.attention) == attention
        assert (regions(bundle, observation).tree.parents == session.tree.parents).all()


def test_attention_costs_no_pass_and_changes_no_feature(bundle: ModelBundle) -> None:
    plain = observe(bundle, radiograph())
    calls: list[object] = []
    handle = bundle.denoiser.register_forward_hook(lambda *_: calls.append(1))
    try:
        observation = observe(bundle, radiograph(), attention=True)
        regions(bundle, observation)
    finally:
        handle.remove()
    assert len(calls) == len(observation.features)
    assert torch.equal(plain.features, observation.features)
    lungs = lungs_of(bundle, observation).labelmap.labels
    assert (lungs == segment_lungs(bundle, radiograph()).labelmap.labels).all()


def test_the_denoiser_decides(bundle: ModelBundle, session: Regions) -> None:
    other = regions(tiny_bundle(seed=1), radiograph())
    assert (other.tree.parents != session.tree.parents).any()


@pytest.mark.parametrize("granularity", [-0.1, 1.1, float("nan")])
def test_a_granularity_out_of_range_is_one_sentence(session: Regions, granularity: float) -> None:
    with pytest.raises(ConfigurationError, match="between 0"):
        session.labels(granularity)


@pytest.mark.parametrize("pixel", [(-1, 0), (150, 0), (0, 110)])
def test_a_pixel_outside_is_one_sentence(session: Regions, pixel: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError, match="outside the radiograph"):
        session.at(*pixel, 0.5)


def test_observing_tells_how_far_it_is_and_can_be_stopped(bundle: ModelBundle) -> None:
    heard: list[tuple[int, int]] = []
    observe(bundle, radiograph(), callback=lambda done, total: heard.append((done, total)))
    times = len(bundle.readout.config.times)
    assert heard == [(done, times) for done in range(1, times + 1)]

    def stop(done: int, total: int) -> None:
        heard.clear()
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        observe(bundle, radiograph(), callback=stop)
