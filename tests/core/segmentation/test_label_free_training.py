"""Clusters, targets and alterations of the head's training, on features with a known answer."""

import numpy as np
import pytest
import torch

from dino_diffusion.alterations import Alteration, draw_alteration
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.segmentation.naming import LEFT_LUNG_PRIOR, RIGHT_LUNG_PRIOR, lung_prior
from dino_diffusion.training.readout import cluster_maps, targets_of, train_head
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
    soft = cluster_maps([features], (6, 8), seed=0)
    assert soft.shape == lungs.shape
    agreement = ((soft > 0.5) == (lungs > 0.5)).float().mean()
    own = ((lung_prior(SIZE)[None, None]) == (lungs > 0.5)).float().mean()
    assert agreement > 0.97 > own


def test_the_border_follows_the_lungs_share_of_the_picture_and_sides_are_named() -> None:
    lungs = lung_prior(SIZE)
    soft = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 0.01
    soft[0, 0][lungs] += 0.4
    doubtful = (slice(30, 31), slice(0, SIZE))
    soft[0, 0][doubtful] += 0.2
    share = float(lungs.float().mean())
    targets = targets_of(soft, share + 16 / SIZE**2, 32 / SIZE**2)[0]
    assert (targets[1].bool() ^ (lungs & RIGHT_LUNG_PRIOR.inside(SIZE))).sum() <= 2
    assert (targets[2].bool() ^ (lungs & LEFT_LUNG_PRIOR.inside(SIZE))).sum() <= 2
    assert targets[3][doubtful].sum() <= 2
    assert targets[0].sum() >= (~lungs).sum() - SIZE - 2


def test_the_head_learns_what_the_targets_say() -> None:
    torch.manual_seed(0)
    features, lungs = planted()
    readout = LungReadout(width=features.shape[1], kept=features.shape[1], hidden=8)
    readout.fit_reduction(features)
    settings = ReadoutSettings(run=RunSettings(steps=60, batch=4, lr=1e-2, weight_decay=0.0))
    reduced = readout.reduce(features)
    train_head(
        readout.head,
        reduced,
        targets_of(lungs + 0.01 * features[:, 2:3], float(lungs.mean()), 0.02),
        settings,
    )
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
