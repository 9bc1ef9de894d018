"""The three networks: any DINO-family backbone, both kinds of conditioning, a picture that comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from dino_diffusion.errors import BundleError
from dino_diffusion.models import Condition, Denoiser, DinoEncoder, EncoderOutput, Frame, TokenPrior
from tests.tiny import (
    CLS_WIDTH,
    LATENT_CHANNELS,
    PATCH_WIDTH,
    smooth_picture,
    tiny_autoencoder,
    tiny_backbone,
    tiny_bundle,
)

TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
FAMILIES = {
    "dinov2": ("Dinov2", {"image_size": 56, "patch_size": 14}),
    "dinov2 with registers": (
        "Dinov2WithRegisters",
        {"image_size": 56, "patch_size": 14, "num_register_tokens": 2},
    ),
    "dinov3": ("DINOv3ViT", {"image_size": 64, "patch_size": 16, "num_register_tokens": 2}),
    "vit": ("ViT", {"image_size": 48, "patch_size": 16}),
}


@pytest.fixture(params=FAMILIES)
def backbone_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random backbone of each family as transformers saves it."""
    family, sizes = FAMILIES[request.param]
    config = getattr(transformers, f"{family}Config")(**TINY, **sizes)
    torch.manual_seed(0)
    getattr(transformers, f"{family}Model")(config).save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def picture(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(smooth_picture(seed, 64, 64))[None, None]


# --- encoder -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_any_dino_family_folder_can_be_the_encoder(backbone_folder: Path, tmp_path: Path) -> None:
    patch = transformers.AutoConfig.from_pretrained(backbone_folder).patch_size
    encoder = DinoEncoder.from_backbone(
        backbone_folder, image_size=4 * patch, cls_width=24, patch_width=8
    ).eval()

    tokens = encoder(torch.cat([picture(0), picture(1)]))

    assert tokens.cls.shape == (2, 24)
    assert tokens.patches.shape == (2, 8, 4, 4)
    assert not torch.allclose(tokens.cls[0], tokens.cls[1])

    encoder.save_pretrained(tmp_path / "encoder")
    again = DinoEncoder.from_pretrained(tmp_path / "encoder")(picture(1))
    assert torch.allclose(again.cls, tokens.cls[1:], atol=1e-5)
    assert torch.allclose(again.patches, tokens.patches[1:], atol=1e-5)


@torch.no_grad()
def test_the_first_blocks_of_a_backbone_alone(backbone_folder: Path) -> None:
    patch = transformers.AutoConfig.from_pretrained(backbone_folder).patch_size
    cut = DinoEncoder.from_backbone(backbone_folder, layers=2, image_size=4 * patch).eval()
    whole = DinoEncoder.from_backbone(backbone_folder, image_size=4 * patch).eval()

    assert cut.backbone.config.num_hidden_layers == 2
    assert len(cut.backbone.state_dict()) < len(whole.backbone.state_dict())
    assert cut(picture()).cls.shape == whole(picture()).cls.shape


@torch.no_grad()
def test_patch_tokens_lie_where_the_picture_has_them() -> None:
    """A change in one corner of the picture moves that corner's token most."""
    torch.manual_seed(0)
    encoder = DinoEncoder(tiny_backbone(), 56)
    changed = picture().clone()
    changed[..., :16, -16:] = 1.0
    moved = (encoder(changed).patches - encoder(picture()).patches).norm(dim=1)[0]
    assert moved.argmax() == 3  # first row, last column of 4 x 4


def test_whitening_gives_every_direction_unit_variance() -> None:
    encoder = DinoEncoder(tiny_backbone(), 56, cls_width=16)
    tokens = torch.randn(400, 32, generator=torch.Generator().manual_seed(0)) @ torch.randn(32, 32) + 3
    encoder.cls_whitening.fit(tokens)
    white = encoder.cls_whitening(tokens)
    assert white.shape == (400, 16)
    assert torch.allclose(white.mean(0), torch.zeros(16), atol=1e-3)
    assert torch.allclose(white.T @ white / 399, torch.eye(16), atol=1e-2)


def test_whitening_at_full_width_does_not_amplify_a_direction_without_variance() -> None:
    encoder = DinoEncoder(tiny_backbone(), 56)
    tokens = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    tokens = tokens - tokens.mean(1, keepdim=True)  # as a LayerNorm leaves them
    encoder.cls_whitening.fit(tokens)
    rounded = encoder.cls_whitening(tokens.half().float())
    assert rounded[:, :31].std(0).allclose(torch.ones(31), atol=1e-2)
    assert rounded[:, 31].std() < 1


def test_an_image_size_that_is_no_multiple_of_the_patch_size_is_refused() -> None:
    with pytest.raises(BundleError, match="use 56"):
        DinoEncoder(tiny_backbone(), 60)


def test_a_folder_that_is_no_backbone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="cannot be loaded"):
        DinoEncoder.from_backbone(tmp_path)


# --- autoencoder -------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_linear_path_alone_restores_a_smooth_picture() -> None:
    torch.manual_seed(0)
    autoencoder = tiny_autoencoder()
    unseen = picture(99)
    latents = autoencoder.encode(unseen)
    assert latents.shape == (1, LATENT_CHANNELS, 8, 8)
    error = (autoencoder.decode(latents) - unseen).square().mean()
    assert -10 * error.log10() > 30  # dB PSNR


@torch.no_grad()
def test_half_precision_leaves_more_greys_than_it_has_itself() -> None:
    autoencoder = tiny_autoencoder()
    latents = autoencoder.encode(0.5 + picture(99) / 2)
    with torch.autocast("cpu", torch.bfloat16):
        half = autoencoder.decode(latents)
    assert not torch.equal(half, half.bfloat16().float())
    torch.testing.assert_close(half, autoencoder.decode(latents), rtol=0, atol=1e-3)


@torch.no_grad()
def test_latents_are_standardised_on_the_corpus() -> None:
    autoencoder = tiny_autoencoder()
    pictures = torch.cat([picture(seed) for seed in range(16)])
    latents = autoencoder.encode(pictures)
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(LATENT_CHANNELS), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(LATENT_CHANNELS), atol=1e-2)


# --- denoiser ----------------------------------------------------------------------------------------


def denoiser(token_grid: int) -> Denoiser:
    return tiny_bundle(token_grid=token_grid).denoiser


def tokens_of(batch: int) -> EncoderOutput:
    generator = torch.Generator().manual_seed(0)
    return EncoderOutput(
        torch.randn(batch, CLS_WIDTH, generator=generator),
        torch.randn(batch, PATCH_WIDTH, 4, 4, generator=generator),
    )


@torch.no_grad()
@pytest.mark.parametrize(("token_grid", "tokens"), [(0, 1), (4, 17)])
def test_conditioning_on_cls_alone_and_on_patches_too(token_grid: int, tokens: int) -> None:
    network = denoiser(token_grid)
    frames = torch.tensor([Frame(size=64).numbers()] * 2)
    encoded = tokens_of(2)
    latents, t = torch.zeros(2, LATENT_CHANNELS, 8, 8), torch.full((2,), 0.5)

    condition = network.condition(encoded, frames)
    assert condition.tokens.shape == (2, tokens, 32)
    velocity = network(latents, t, condition)
    assert velocity.shape == latents.shape

    other_patches = EncoderOutput(encoded.cls, encoded.patches.roll(1, dims=-1))
    moved = network(latents, t, network.condition(other_patches, frames))
    assert torch.equal(velocity, moved) == (token_grid == 0)
    assert not torch.allclose(velocity, network(latents, t, network.unconditional(frames)))


@torch.no_grad()
def test_a_missing_token_says_nothing_of_the_image() -> None:
    network = denoiser(4)
    frames = torch.tensor([Frame(size=64).numbers()])
    nothing = torch.zeros(1, 17, dtype=torch.bool)
    assert torch.equal(
        network.condition(tokens_of(1), frames, nothing).tokens, network.unconditional(frames).tokens
    )


@torch.no_grad()
def test_the_frame_matters() -> None:
    network = denoiser(4)
    latents, t, encoded = torch.zeros(1, LATENT_CHANNELS, 8, 8), torch.full((1,), 0.5), tokens_of(1)
    whole, crop = (
        network(latents, t, network.condition(encoded, torch.tensor([frame.numbers()])))
        for frame in (Frame(size=64), Frame(0.5, 0.5, 1.0, 1.0, size=64))
    )
    assert not torch.allclose(whole, crop)


def test_conditions_join_and_repeat_along_the_batch() -> None:
    a, b = (Condition(torch.full((1, 2, 3), value), torch.full((1, 4), value)) for value in (1.0, 2.0))
    joined = Condition.cat([a, b]).repeat(2)
    assert joined.tokens[:, 0, 0].tolist() == [1, 1, 2, 2]
    assert joined.frame[:, 0].tolist() == [1, 1, 2, 2]


# --- prior -------------------------------------------------------------------------------------------


def test_the_prior_has_the_corpus_mean_and_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(300, 6, generator=generator) * torch.arange(1, 7) + 5
    patches = torch.randn(300, 2, 2, 2, generator=generator) - 3
    prior = TokenPrior(cls_width=6, patch_width=2, grid=2, components=14)
    prior.fit(EncoderOutput(cls, patches))

    drawn = prior.sample(4000, torch.Generator().manual_seed(1))

    assert drawn.patches.shape == (4000, 2, 2, 2)
    assert torch.allclose(drawn.cls.mean(0), cls.mean(0), atol=0.3)
    assert torch.allclose(drawn.cls.std(0), cls.std(0), rtol=0.1)
    assert torch.allclose(drawn.patches.mean(0), patches.mean(0), atol=0.1)


def test_fitting_a_prior_leaves_the_random_state_alone() -> None:
    tokens = EncoderOutput(torch.randn(20, 6), torch.randn(20, 2, 2, 2))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    TokenPrior(cls_width=6, patch_width=2, grid=2, components=2).fit(tokens)
    assert torch.rand(1) == expected
