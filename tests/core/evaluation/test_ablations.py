"""Stand-ins for a part of the bundle: they go where the part goes, and know no more than they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dino_diffusion.evaluation import ablations
from dino_diffusion.models import ModelBundle
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.lungs import segment_lungs
from dino_diffusion.segmentation.observation import observe
from tests.tiny import PATCH_WIDTH, SIZE, smooth_picture, tiny_bundle

GRID = 16


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


def test_random_denoiser_has_the_shape_but_not_the_weights(bundle: ModelBundle) -> None:
    fresh = ablations.random_denoiser(bundle, seed=1)
    before, after = bundle.denoiser.state_dict(), fresh.denoiser.state_dict()
    assert {name: value.shape for name, value in before.items()} == {n: v.shape for n, v in after.items()}
    assert fresh.id != bundle.id and fresh.id_of("encoder", "autoencoder") == bundle.id_of(
        "encoder", "autoencoder"
    )
    again = ablations.random_denoiser(bundle, seed=1)
    assert again.id == fresh.id
    assert ablations.random_denoiser(bundle, seed=2).id != fresh.id


@pytest.mark.parametrize("image_size", [None, 112])
def test_patches_alone_are_observed_where_features_were(bundle: ModelBundle, image_size: int | None) -> None:
    alone = ablations.patches_alone(bundle, image_size)
    readout = LungReadout(PATCH_WIDTH, kept=PATCH_WIDTH, layers=(ablations.PATCHES,), times=(0.0,))
    alone.readout = readout.eval()
    radiograph = Radiograph.from_array(smooth_picture(3))
    seen = observe(alone, radiograph)
    assert seen.features.shape == (1, 1, PATCH_WIDTH, SIZE // 8, SIZE // 8)
    assert seen.encoded.tokens.patches.shape[-1] == (image_size or 56) // 14
    expected = torch.nn.functional.interpolate(
        seen.encoded.tokens.patches, (SIZE // 8, SIZE // 8), mode="bicubic", align_corners=False
    )
    assert torch.allclose(seen.features[0], expected)
    assert bundle.encoder.image_size == 56, "the bundle itself was changed"
    assert segment_lungs(alone, radiograph).labelmap.labels.shape == (SIZE, SIZE)


def lungs_and_noise(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, 8, GRID, GRID) that shift by 5 inside two boxes; the boxes as (3, GRID, GRID)."""
    boxes = torch.zeros(3, GRID, GRID)
    boxes[1, 4:12, 3:7] = 1
    boxes[2, 4:12, 10:14] = 1
    boxes[0] = 1 - boxes[1:].sum(0)
    noise = torch.randn(count, 8, GRID, GRID, generator=torch.Generator().manual_seed(0))
    return noise * 0.1 + 5 * boxes[1:].sum(0), boxes


@pytest.fixture(scope="module")
def clusters() -> ablations.ClusterReadout:
    features, _ = lungs_and_noise(6)
    readout = LungReadout(8, kept=4)
    readout.fit_reduction(features)
    return ablations.fit_clusters(readout, features, count=4)


def test_clusters_are_named_by_the_prior(clusters: ablations.ClusterReadout) -> None:
    features, boxes = lungs_and_noise(2)
    found = clusters(features).softmax(1)
    assert found.shape == (2, 3, GRID, GRID)
    right, left = boxes[1] > 0, boxes[2] > 0
    assert (found[:, 1, right] > 0.5).all() and (found[:, 2, left] > 0.5).all()
    assert (found[:, 0, boxes[0] > 0] > 0.5).float().mean() > 0.9


def test_the_oracle_names_what_the_mask_says_and_nothing_finer(clusters: ablations.ClusterReadout) -> None:
    """A mask of the right box alone; then of half a box, which no cluster tells from the other half."""
    features, boxes = lungs_and_noise(1)
    one_lung = torch.stack([1 - boxes[1], boxes[1], torch.zeros(GRID, GRID)])
    found = ablations.named_by_oracle(clusters, features, one_lung)(features).argmax(1)[0]
    assert torch.equal(found, one_lung.argmax(0))
    part = one_lung.clone()
    part[1, 6:], part[0, 6:] = 0, 1
    found = ablations.named_by_oracle(clusters, features, part)(features).argmax(1)[0]
    assert found.unique().tolist() in ([0], [0, 1])
    assert not torch.equal(found, part.argmax(0))


def test_labels_become_shares_of_three_classes() -> None:
    shares = ablations.cells_of(np.array([[0, 1, 4], [2, 8, 16]], np.uint8))
    assert shares.shape == (1, 3, 2, 3)
    assert shares.argmax(1)[0].tolist() == [[0, 1, 1], [2, 2, 0]]
    assert (shares.sum(1) == 1).all()
