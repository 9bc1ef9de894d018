"""Several radiographs at once are seen as each is alone, a negative among them as its negative."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import observe, segment_lungs
from dino_diffusion.segmentation.lungs import find_lungs
from dino_diffusion.segmentation.observation import observe_many
from dino_diffusion.view_report import ViewReport
from tests.tiny import smooth_picture, tiny_bundle

SHAPES = ((64, 64), (90, 50), (40, 300))


@pytest.fixture
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture
def films() -> list[Radiograph]:
    return [Radiograph.from_array(smooth_picture(seed, *shape)) for seed, shape in enumerate(SHAPES)]


@pytest.fixture(autouse=True)
def second_is_a_negative(
    monkeypatch: pytest.MonkeyPatch, bundle: ModelBundle, films: list[Radiograph]
) -> None:
    dark = bundle.encoder(films[1].model_view(bundle.size).pixels).cls
    monkeypatch.setattr(
        ViewReport,
        "of",
        lambda checks, tokens: [
            ViewReport(negative=torch.allclose(cls, dark[0], atol=1e-3)) for cls in tokens.cls
        ],
    )


def test_each_is_seen_as_it_is_alone(bundle: ModelBundle, films: list[Radiograph]) -> None:
    pictures = [(film, film.model_view(bundle.size)) for film in films]
    for film, together in zip(films, observe_many(bundle, pictures, seed=3), strict=True):
        alone = observe(bundle, film, seed=3)
        assert together.radiograph is film and together.report == alone.report
        assert together.report.negative == (film is films[1])
        assert torch.equal(together.view.pixels, alone.view.pixels) and together.widths == alone.widths
        assert torch.allclose(together.features, alone.features, atol=1e-4)
        assert torch.allclose(together.encoded.latents, alone.encoded.latents, atol=1e-4)


def test_threads_that_share_a_model_get_what_they_get_alone(
    bundle: ModelBundle, films: list[Radiograph]
) -> None:
    """On a server one observes for a client while another observes, paints or scores."""
    alone = [observe(bundle, film, attention=True) for film in films]
    again = [*films] * 8
    with ThreadPoolExecutor(len(films)) as pool:
        together = list(pool.map(lambda film: observe(bundle, film, attention=True), again))
    for number, seen in enumerate(together):
        expected = alone[number % len(films)]
        assert torch.allclose(seen.features, expected.features, atol=1e-4)
        assert len(seen.attention) == len(expected.attention)
        for one, other in zip(seen.attention, expected.attention, strict=True):
            assert torch.allclose(one.weights, other.weights, atol=1e-4)


def test_lungs_found_together_are_those_of_each_alone(bundle: ModelBundle, films: list[Radiograph]) -> None:
    """Where a negative is outlined, its radiograph's negative view was asked for."""
    views = [film.model_view(bundle.size) for film in films]
    negatives = [film.model_view(bundle.size, negative=True) for film in films]
    found = find_lungs(bundle, views, negatives.__getitem__)
    assert [one.negative for one in found] == [False, True, False]
    for film, one, view, negative in zip(films, found, views, negatives, strict=True):
        together = one.outlined(film, negative if one.negative else view)
        alone = segment_lungs(bundle, film)
        assert np.array_equal(together.labelmap.labels, alone.labelmap.labels)
        assert np.allclose(together.uncertainty_map, alone.uncertainty_map, atol=1e-4)
        assert together.view == alone.view and together.warnings == alone.warnings


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_and_cuts_the_same_lungs(bundle: ModelBundle, films: list[Radiograph]) -> None:
    views = [film.model_view(bundle.size) for film in films]
    negatives = [film.model_view(bundle.size, negative=True) for film in films]
    here = find_lungs(bundle, views, negatives.__getitem__)
    there = find_lungs(bundle.to("cuda"), views, negatives.__getitem__)
    for film, one, other, view in zip(films, here, there, views, strict=True):
        assert other.mask is not None and one.mask is None
        assert np.allclose(one.votes, other.votes, atol=0.02)
        expected, found = (which.outlined(film, view).labelmap.labels for which in (one, other))
        assert (expected != found).mean() < 0.05
