"""Outlines of both lungs together: sharp, on the right side, and kept where the picture has no edge."""

import torch

from dino_diffusion.segmentation.naming import LEFT_LUNG_PRIOR, RIGHT_LUNG_PRIOR
from dino_diffusion.segmentation.outline import cut_each, cut_out, cut_together, outlined

SIZE, GRID = 64, 48


def chest(size: int, white: bool = False) -> torch.Tensor:
    """`(1, 1, size, size)`: dark lungs in bright surroundings, slightly noisy; a white left lung if asked."""
    dark = RIGHT_LUNG_PRIOR.inside(size) | (LEFT_LUNG_PRIOR.inside(size) & (not white))
    noise = torch.rand(size, size, generator=torch.Generator().manual_seed(0))
    return (0.8 - 0.5 * dark.float() + 0.02 * noise)[None, None]


def votes() -> torch.Tensor:
    """`(1, 3, 8, 8)`: both lungs, coarsely and without much conviction."""
    priors = torch.stack([prior.inside(SIZE).float() for prior in (RIGHT_LUNG_PRIOR, LEFT_LUNG_PRIOR)])
    lungs = torch.nn.functional.adaptive_avg_pool2d(priors[None], 8) * 0.9 + 0.03
    return torch.cat([1 - lungs.sum(1, keepdim=True), lungs], dim=1)


def overlap(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def test_both_lungs_get_the_pictures_own_outline() -> None:
    sharp = outlined(votes(), cut_out(votes(), chest(SIZE)))
    assert sharp.shape == (1, 3, GRID, GRID)
    assert torch.allclose(sharp.sum(1), torch.ones(1, GRID, GRID), atol=1e-5)
    plain = torch.nn.functional.interpolate(votes(), (GRID, GRID), mode="bilinear")
    for index, prior in enumerate((RIGHT_LUNG_PRIOR, LEFT_LUNG_PRIOR), start=1):
        wanted = prior.inside(GRID)
        assert overlap(sharp[0, index] > 0.5, wanted) > 0.95 > overlap(plain[0, index] > 0.5, wanted)


def test_a_white_lung_keeps_what_is_likely() -> None:
    sharp = outlined(votes(), cut_out(votes(), chest(SIZE, white=True)))
    assert overlap(sharp[0, 1] > 0.5, RIGHT_LUNG_PRIOR.inside(GRID)) > 0.95
    assert overlap(sharp[0, 2] > 0.5, LEFT_LUNG_PRIOR.inside(GRID)) > 0.7


def test_what_a_gpu_cuts_together_is_what_is_cut_one_by_one() -> None:
    pictures = torch.cat([chest(SIZE), chest(SIZE, white=True)])
    both = torch.cat([votes(), votes()])
    together, each = cut_together(both, pictures), cut_each(both, pictures)
    assert together.shape == each.shape == (2, GRID, GRID)
    assert (together != each).mean() < 0.002 < each.mean() < 0.5
