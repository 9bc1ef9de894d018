"""Clusters, labels and alterations of the head's training, on features with a known answer."""

import numpy as np
import pytest
import torch

from dino_diffusion.alterations import Alteration, draw_alteration
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.segmentation.naming import LEFT_LUNG_PRIOR, RIGHT_LUNG_PRIOR, lung_prior
from dino_diffusion.training.close_views import close_features
from dino_diffusion.training.pseudo_labels import (
    border_of,
    cluster_maps,
    probabilities,
    shares_of,
    with_background,
)
from dino_diffusion.training.readout import train_head
from dino_diffusion.training.settings import ReadoutSettings, RunSettings

SIZE = 32


def planted(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Features whose first channel tells lung from the rest, and the lungs, each image shifted by itself."""
    generator = torch.Generator().manual_seed(0)
    lungs = torch.stack(
        [
            torch.roll(
                lung_prior(SIZE), tuple(torch.randint(-2, 3, (2,), generator=generator).tolist()), (0, 1)
            )
            for _ in range(count)
        ]
    )[:, None].float()
    noise = torch.randn(count, 5, SIZE, SIZE, generator=generator) * 0.2
    across = torch.linspace(-1, 1, SIZE).expand(count, 1, SIZE, SIZE)
    return torch.cat([lungs * 3, across, noise], dim=1), lungs


def test_clusters_named_by_the_prior_find_lungs_that_moved_away_from_it() -> None:
    features, lungs = planted()
    soft = cluster_maps(features, (6, 8), seed=0)
    assert soft.shape == lungs.shape
    agreement = ((soft > 0.5) == (lungs > 0.5)).float().mean()
    own = ((lung_prior(SIZE)[None, None]) == (lungs > 0.5)).float().mean()
    assert agreement > 0.97 > own


def test_as_many_cells_have_more_than_an_even_chance_as_lungs_take() -> None:
    soft = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 0.3
    lung = probabilities(soft, border_of(soft, 0.26))
    assert float((lung > 0.5).float().mean()) == pytest.approx(0.26, abs=0.001)


def test_shares_have_sides_and_specks_belong_to_no_lung() -> None:
    lung = lung_prior(SIZE).float() * 0.9
    lung[SIZE - 2, SIZE // 2] = 0.8
    shares = shares_of(lung[None, None])[0]
    assert torch.allclose(shares.sum(0), torch.ones(SIZE, SIZE)) and shares[0, SIZE - 2, SIZE // 2] == 1
    assert torch.equal(shares[1], lung * RIGHT_LUNG_PRIOR.inside(SIZE))
    assert torch.equal(shares[2], lung * LEFT_LUNG_PRIOR.inside(SIZE))


def test_what_came_in_from_outside_is_background() -> None:
    moved = torch.zeros(1, 2, 2, 2)
    moved[:, 0, :, 1] = 0.5
    shares = with_background(moved)
    assert torch.equal(shares.sum(1), torch.ones(1, 2, 2)) and shares[0, 0, 0, 0] == 1


def test_close_features_of_parts_join_to_those_of_the_whole() -> None:
    picture = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    told: list[torch.Tensor] = []

    def look(parts: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        told.append(frames)
        return torch.nn.functional.avg_pool2d(parts, 4)

    joined = close_features(picture, 1000, look)
    assert torch.allclose(joined, torch.nn.functional.avg_pool2d(picture, 4), atol=1e-6)
    assert told[0].shape == (9, 6)
    assert torch.allclose(told[0][5, :4], torch.tensor([0.5, 0.25, 1.0, 0.75]))


def test_the_head_learns_what_the_shares_say() -> None:
    torch.manual_seed(0)
    features, lungs = planted()
    readout = LungReadout(width=features.shape[1], kept=features.shape[1], hidden=8)
    readout.fit_reduction(features)
    settings = ReadoutSettings(run=RunSettings(steps=60, batch=4, lr=1e-2, weight_decay=0.0))
    reduced = readout.reduce(features)
    right = lungs * (torch.arange(SIZE) < SIZE // 2)
    train_head(readout.head, reduced, torch.cat([1 - lungs, right, lungs - right], dim=1), settings)
    labels = readout.head(reduced).argmax(1)
    assert ((labels > 0) == (lungs[:, 0] > 0.5)).float().mean() > 0.95
    assert (labels[:, :, : SIZE // 3] == 2).sum() == 0


def test_reduction_gives_components_of_unit_variance() -> None:
    features = (
        torch.randn(4, 10, 16, 16, generator=torch.Generator().manual_seed(0))
        * torch.arange(1, 11)[:, None, None]
    )
    readout = LungReadout(width=10, kept=4, hidden=4)
    readout.fit_reduction(features)
    reduced = readout.reduce(features)
    assert torch.allclose(reduced.std((0, 2, 3)), torch.ones(4), atol=0.02)
    assert readout.component_scale()[0] == pytest.approx(10, rel=0.1)


def test_alterations_never_mirror_and_move_picture_and_labels_alike() -> None:
    rng = np.random.default_rng(0)
    picture = torch.zeros(1, 1, 64, 64)
    picture[..., 24:40, 10:26] = 1
    for _ in range(50):
        drawn = draw_alteration(rng)
        (a, b, _), (c, d, _) = drawn.matrix
        assert a * d - b * c > 0
        plain = Alteration(drawn.matrix)
        assert torch.equal(plain.picture(picture), plain.labels(picture).clamp(0, 1))


def test_an_altered_picture_is_the_same_each_time() -> None:
    drawn = Alteration(((1.0, 0.0, 0.1), (0.0, 1.0, 0.0)), gamma=0.8, noise=0.05, seed=3)
    picture = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.picture(picture), drawn.picture(picture))
    assert drawn.picture(picture).min() >= 0 and drawn.picture(picture).max() <= 1
