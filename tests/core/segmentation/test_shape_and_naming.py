"""Pure functions between a soft map and two named lungs."""

import numpy as np
import torch

from dino_diffusion.segmentation.lungs import doubt_of, image_uncertainty, keep_largest
from dino_diffusion.segmentation.naming import LEFT_LUNG_PRIOR, RIGHT_LUNG_PRIOR, lung_prior
from dino_diffusion.segmentation.shape import largest_region, part_lungs


def two_lungs(size: int = 64) -> np.ndarray:
    """Probability 1 inside the prior ellipses."""
    return lung_prior(size).numpy().astype(np.float32)


def test_the_prior_puts_the_right_lung_on_the_left_of_the_picture() -> None:
    columns = torch.arange(64)
    right, left = RIGHT_LUNG_PRIOR.inside(64), LEFT_LUNG_PRIOR.inside(64)
    assert (right.sum(0) * columns).sum() / right.sum() < 32 < (left.sum(0) * columns).sum() / left.sum()
    assert not (right & left).any()


def test_lungs_lean_toward_each_other_at_the_apices_and_leave_room_for_the_heart() -> None:
    columns, prior = torch.arange(64), lung_prior(64)
    right, left = RIGHT_LUNG_PRIOR.inside(64), LEFT_LUNG_PRIOR.inside(64)
    for lung, medial in ((right, 1), (left, -1)):
        upper, lower = (part.sum(0) for part in (lung[:28], lung[28:]))
        shift = (upper * columns).sum() / upper.sum() - (lower * columns).sum() / lower.sum()
        assert medial * shift > 2
    assert (prior & left).sum() < left.sum()


def test_lungs_are_parted_between_them_and_named_by_side() -> None:
    labels = part_lungs(two_lungs())
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.nonzero(labels == 1)[1].max() < np.nonzero(labels == 2)[1].min()
    assert ((labels > 0) == (two_lungs() > 0.5)).all()


def test_lungs_that_touch_are_still_parted() -> None:
    touching = two_lungs()
    touching[28:34, 18:46] = 1
    labels = part_lungs(touching)
    assert abs(int((labels == 1).sum()) - int((labels == 2).sum())) < 0.2 * (labels == 1).sum()


def test_specks_go_and_holes_are_filled() -> None:
    spoilt = two_lungs()
    spoilt[2:4, 2:4] = 1
    spoilt[30, 18] = 0
    assert (part_lungs(spoilt) == part_lungs(two_lungs())).all()


def test_nothing_found_is_an_empty_labelmap() -> None:
    assert not part_lungs(np.zeros((32, 32), np.float32)).any()
    assert not largest_region(np.zeros((4, 4), bool)).any()


def test_keep_largest_drops_a_second_region_of_a_lung() -> None:
    lungs = np.stack([RIGHT_LUNG_PRIOR.inside(64).numpy(), LEFT_LUNG_PRIOR.inside(64).numpy()]).astype(
        np.float32
    )
    spoilt = lungs.copy()
    spoilt[0, 58:62, 4:8] = 1
    assert (keep_largest(spoilt) > 0.5).sum() == (lungs > 0.5).sum()


def test_doubt_is_none_for_agreement_and_full_at_even_odds() -> None:
    certain = torch.zeros(2, 1, 3, 4, 4)
    certain[:, :, 1] = 1
    split = certain.clone()
    split[1] = 0
    split[1, :, 0] = 1
    assert doubt_of(certain).max() == 0
    assert doubt_of(split).min() == 1
    assert image_uncertainty(certain) == 0
    assert image_uncertainty(split) > 0.9


def test_no_lung_at_all_is_uncertain() -> None:
    background = torch.zeros(2, 1, 3, 4, 4)
    background[:, :, 0] = 0.9
    background[:, :, 1:] = 0.05
    assert image_uncertainty(background) > 0.9
