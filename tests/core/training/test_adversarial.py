"""The discriminator beside the autoencoder: each learns from its own loss alone, and texture is restored."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from dino_diffusion.models import Autoencoder
from dino_diffusion.training.adversarial import AdversarialAutoencoder, PatchDiscriminator, balance


@pytest.fixture
def both() -> AdversarialAutoencoder:
    torch.manual_seed(0)
    autoencoder = Autoencoder(4, (16, 16, 16), 1, residual_encoder=False, norm_num_groups=8)
    nn.init.normal_(autoencoder.decoder.conv_out.weight, std=0.01)
    return AdversarialAutoencoder(autoencoder, PatchDiscriminator((8, 16)))


def moved(module: nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def test_each_side_learns_from_its_own_loss_alone(both: AdversarialAutoencoder) -> None:
    pixels = torch.rand(2, 1, 32, 32)
    both(pixels, 0.0).hinge.backward()
    assert moved(both.discriminator) and not moved(both.autoencoder)
    both.zero_grad()
    both(pixels, 0.0).persuasion.backward()
    assert moved(both.autoencoder) and not moved(both.discriminator)


def test_a_score_sees_texture_and_not_the_whole(both: AdversarialAutoencoder) -> None:
    pixels = torch.full((1, 1, 64, 64), 0.5)
    assert both.discriminator(pixels).shape == (1, 1, 16, 16)
    spoilt = pixels.clone()
    spoilt[..., :8, :8] += 0.01 * torch.randn(8, 8)
    # GroupNorm sees the whole picture; a score's own patch moves it far more than what lies elsewhere.
    change = (both.discriminator(spoilt) - both.discriminator(pixels)).abs()[0, 0]
    assert change[:2, :2].mean() > 3 * change[8:, 8:].mean()


def test_the_balanced_loss_moves_the_last_weights_as_far() -> None:
    last = nn.Parameter(torch.tensor([1.0, 2.0]))
    loss, other = 3 * last.sum(), 0.01 * last[0]
    share = balance(loss, other, last)
    norms = [float(torch.autograd.grad(x, last, retain_graph=True)[0].norm()) for x in (loss, share * other)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4) and not share.requires_grad


@pytest.mark.parametrize(("adversarial", "least", "most"), [(0.0, 0.0, 0.1), (4.0, 0.4, 2.0)])
def test_texture_comes_back_where_differences_alone_leave_blur(
    adversarial: float, least: float, most: float
) -> None:
    """Pictures of nothing but grain that nobody can foresee; the painter has grain of its own to add."""
    torch.manual_seed(0)
    gain, judge = nn.Parameter(torch.tensor([0.3])), PatchDiscriminator((8, 16))
    optimiser = torch.optim.AdamW([gain, *judge.parameters()], lr=2e-2)
    for _ in range(150):
        own, grain = (0.05 * torch.randn(8, 1, 32, 32) for _ in range(2))
        made, real = 0.5 + gain * own, 0.5 + grain
        loss = (made - real).abs().mean()
        if adversarial:
            hinge = (1 - judge(real)).relu().mean() + (1 + judge(made.detach())).relu().mean()
            weights = {name: weight.detach() for name, weight in judge.named_parameters()}
            persuasion = functional_call(judge, weights, (made,)).mean()
            loss = loss - adversarial * balance(loss, persuasion, gain) * persuasion + hinge
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert least <= abs(float(gain.detach())) <= most
