"""The guided filter follows the picture's edges and leaves a flat picture alone."""

import torch

from dino_diffusion.segmentation.refine import box, guided_upsample


def test_an_edge_of_the_guide_is_taken_over() -> None:
    guide = torch.zeros(1, 1, 64, 64)
    guide[..., 37:] = 1
    coarse = torch.zeros(1, 1, 8, 8)
    coarse[..., 5:] = 1
    refined = guided_upsample(coarse, guide, radius=6, smoothness=1e-4)[0, 0, 32]
    plain = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")[0, 0, 32]
    jump = float((refined[38] - refined[35]).abs())
    assert jump > 1.5 * float((plain[38] - plain[35]).abs())


def test_a_flat_guide_only_smooths() -> None:
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    refined = guided_upsample(coarse, torch.full((1, 1, 64, 64), 0.5))
    assert refined.min() >= coarse.min() - 1e-5 and refined.max() <= coarse.max() + 1e-5
    assert abs(float(refined.mean() - coarse.mean())) < 0.05


def test_probabilities_stay_probabilities_and_constants_stay() -> None:
    guide = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    refined = guided_upsample(torch.ones(1, 1, 4, 4), guide)
    assert torch.allclose(refined, torch.ones_like(refined), atol=1e-4)
    assert torch.allclose(box(torch.ones(1, 1, 9, 9), 3), torch.ones(1, 1, 9, 9))
