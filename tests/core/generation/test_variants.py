"""Variants and new radiographs: what a seed means, what each kind of variation does, how it stops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from dino_diffusion.errors import Cancelled, ConfigurationError
from dino_diffusion.generation.embedding import ImageClass, blend, embed, slerp
from dino_diffusion.generation.recipe import hash_of_pixels
from dino_diffusion.generation.variants import Variation, generate
from dino_diffusion.models import EncoderOutput, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SamplingStep
from tests.tiny import smooth_picture, tiny_bundle

STEPS = 2


def picture(seed: int, height: int = 90, width: int = 70) -> Radiograph:
    return Radiograph.from_array(smooth_picture(seed, height, width), spacing_mm=(0.5, 0.25))


A, B, C = picture(3), picture(8), picture(11, 64, 64)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def image_class(bundle: ModelBundle) -> ImageClass:
    return ImageClass.of(bundle, (picture(seed) for seed in range(20, 28)))


def made(bundle: ModelBundle, like: Radiograph | Variation | None = None, **settings: Any) -> np.ndarray:
    return generate(bundle, like=like, **{"steps": STEPS} | settings)[0].pixels


def test_new_pictures_are_squares_in_the_grey_range(bundle: ModelBundle) -> None:
    for item in generate(bundle, 2, steps=STEPS):
        assert item.pixels.shape == (64, 64)
        assert item.pixels.dtype == np.float32
        assert 0 <= item.pixels.min() < item.pixels.max() <= 1
        assert item.spacing_mm is None


def test_same_seed_same_picture(bundle: ModelBundle) -> None:
    first, again, other = (made(bundle, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("like", [None, A, Variation(A, (B,), strength=0.5, jitter=0.3)])
def test_picture_k_does_not_depend_on_how_many_are_made(
    bundle: ModelBundle, like: Radiograph | Variation | None
) -> None:
    few, many = (generate(bundle, count, like, seed=2, steps=STEPS) for count in (2, 4))
    last = generate(bundle, 1, like, seed=2, steps=STEPS, first=3)
    for a, b in zip([*few, *last], [*many[:2], many[3]], strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert a.recipe == b.recipe
    assert not np.allclose(many[0].pixels, many[1].pixels)


def test_variants_follow_the_radiograph_and_have_its_aspect(bundle: ModelBundle) -> None:
    a, b = (generate(bundle, like=source, steps=STEPS)[0] for source in (A, B))
    assert not np.allclose(a.pixels, b.pixels)
    assert a.pixels.shape == (64, 50)
    assert a.spacing_mm == pytest.approx((0.5 * 90 / 64, 0.25 * 90 / 64))
    assert made(bundle, C).shape == (64, 64)


def test_a_strip_too_narrow_for_a_file_stays_in_its_square(bundle: ModelBundle) -> None:
    assert made(bundle, picture(1, 400, 20), steps=1).shape == (64, 64)


def test_less_strength_stays_nearer_to_the_radiograph(bundle: ModelBundle) -> None:
    own = bundle.autoencoder.decode(bundle.autoencoder.encode(C.model_view(64).pixels))[0, 0].numpy()
    changes = [
        np.abs(made(bundle, Variation(C, strength=strength), steps=4, guidance=1.0) - own).mean()
        for strength in (0.02, 0.3, 1.0)
    ]
    assert changes[0] < changes[1] < changes[2]
    assert changes[0] < 0.05


def test_a_strength_takes_its_part_of_the_steps(bundle: ModelBundle) -> None:
    seen: list[SamplingStep] = []
    generate(bundle, like=Variation(A, strength=0.5), steps=10, callback=seen.append)
    share = 0.5 / (bundle.time_shift - (bundle.time_shift - 1) * 0.5)
    assert len(seen) == round(10 * share)
    assert seen[0].t == 0.5


def test_a_blend_begins_and_ends_at_its_radiographs(bundle: ModelBundle) -> None:
    """B alone is named second, so its aspect and its grid are A's: both have the same shape here."""
    start, end = (made(bundle, Variation(A, (B,), (share,))) for share in (0.0, 1.0))
    np.testing.assert_allclose(start, made(bundle, A), atol=1e-4)
    np.testing.assert_allclose(end, made(bundle, B), atol=1e-4)
    between = made(bundle, Variation(A, (B,)))
    assert not np.allclose(between, start, atol=1e-3) and not np.allclose(between, end, atol=1e-3)


def test_slerp_keeps_the_length_and_the_pace() -> None:
    a, b = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0.0, 3.0, 0.0]])
    thirds = [slerp(a, b, share) for share in (0.0, 1 / 3, 2 / 3, 1.0)]
    for point in thirds:
        torch.testing.assert_close(point.norm(), torch.tensor(3.0))
    angles = [float(torch.arccos((p @ q.T / 9).clamp(-1, 1))) for p, q in itertools.pairwise(thirds)]
    assert angles == pytest.approx([np.pi / 6] * 3, abs=1e-5)
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)


def test_three_equal_weights_are_nearly_symmetric() -> None:
    tokens = [EncoderOutput(5 * one[None], 2 * one[None, :, None, None]) for one in torch.eye(3)]
    mixed = blend(tokens, (1 / 3, 1 / 3, 1 / 3))
    torch.testing.assert_close(mixed.cls.norm(), torch.tensor(5.0))
    torch.testing.assert_close(mixed.patches.norm(), torch.tensor(2.0))
    assert [float(torch.cosine_similarity(mixed.cls, one.cls)) for one in tokens] == pytest.approx(
        [3**-0.5] * 3, abs=0.08
    )
    assert torch.equal(blend(tokens, (1.0, 0.0, 0.0)).cls, tokens[0].cls)


def test_jitter_strays_farther_the_larger_it_is(bundle: ModelBundle) -> None:
    own = embed(bundle, A)
    spread = bundle.prior.factors.norm()
    distances = []
    for amount in (0.0, 0.2, 0.8):
        near = bundle.prior.vary(own, amount, torch.Generator().manual_seed(1))
        distances.append(float((near.cls - own.cls).norm()))
    assert distances[0] == pytest.approx(0, abs=1e-5)
    assert distances[0] < distances[1] < distances[2] < float(spread) * 2


def test_jitter_of_one_is_a_draw_of_the_prior(bundle: ModelBundle) -> None:
    stray = bundle.prior.vary(embed(bundle, A), 1.0, torch.Generator().manual_seed(1))
    drawn = bundle.prior.sample(1, torch.Generator().manual_seed(1))
    torch.testing.assert_close(stray.cls, drawn.cls)
    torch.testing.assert_close(stray.patches, drawn.patches)


def test_a_jittered_picture_changes_with_its_number(bundle: ModelBundle) -> None:
    sharp = made(bundle, A)
    jittered = made(bundle, Variation(A, jitter=0.7))
    assert jittered.shape == sharp.shape and not np.allclose(jittered, sharp)


def test_a_class_gives_tokens_around_its_mean(bundle: ModelBundle, image_class: ImageClass) -> None:
    members = torch.cat([embed(bundle, picture(seed)).cls for seed in range(20, 28)])
    drawn = image_class.prior.sample(400, torch.Generator().manual_seed(0)).cls
    spread = members.std(0).norm()
    assert (drawn.mean(0) - members.mean(0)).norm() < 0.2 * spread
    assert drawn.std(0).norm() == pytest.approx(float(spread), rel=0.1)


def test_a_class_does_not_depend_on_order_or_names(bundle: ModelBundle, image_class: ImageClass) -> None:
    turned = ImageClass.of(bundle, (picture(seed) for seed in reversed(range(20, 28))))
    assert turned.sha256 == image_class.sha256
    assert torch.equal(turned.prior.factors, image_class.prior.factors)


def test_a_class_with_a_start(bundle: ModelBundle, image_class: ImageClass) -> None:
    of_class = made(bundle, Variation(image_class=image_class))
    started = generate(bundle, like=Variation(A, strength=0.4, image_class=image_class), steps=STEPS)[0]
    assert of_class.shape == (64, 64) and started.pixels.shape == (64, 50)
    assert set(started.recipe.inputs) == {"like", "class"}


def test_too_few_images_are_no_class(bundle: ModelBundle) -> None:
    with pytest.raises(ConfigurationError, match="3 radiographs are too few"):
        ImageClass.of(bundle, (picture(seed) for seed in range(3)))


def test_guidance_changes_the_picture(bundle: ModelBundle) -> None:
    assert not np.allclose(made(bundle, guidance=1.0), made(bundle, guidance=6.0))


def test_guidance_outside_its_interval_changes_nothing(bundle: ModelBundle) -> None:
    plain, nowhere = (
        made(bundle, guidance=guidance, guidance_interval=(0.0, 0.01)) for guidance in (1.0, 6.0)
    )
    assert np.array_equal(plain, nowhere)


def test_the_recipe_names_inputs_by_hash_and_says_which_pixels(bundle: ModelBundle) -> None:
    item = generate(bundle, like=Variation(A, (B, C), (0.2, 0.3)), steps=1)[0]
    assert item.recipe.inputs == {
        "like": A.source.sha256,
        "and": B.source.sha256,
        "and-2": C.source.sha256,
    }
    assert item.recipe.result == hash_of_pixels(item.pixels)
    assert item.recipe.checks == {}


def test_the_callback_sees_every_step_and_can_cancel(bundle: ModelBundle) -> None:
    seen: list[SamplingStep] = []
    generate(bundle, 2, steps=3, callback=seen.append)
    assert [step.index for step in seen] == [1, 2, 3] * 2
    assert seen[0].estimate.shape == (1, *bundle.latent_shape)

    seen.clear()

    def stop_after_two(step: SamplingStep) -> bool:
        seen.append(step)
        return step.index < 2

    with pytest.raises(Cancelled):
        generate(bundle, steps=3, callback=stop_after_two)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "settings",
    [{"count": 0}, {"steps": 0}, {"steps": 1001}, {"guidance": -1}, {"sampler": "none"}, {"first": -1}],
)
def test_impossible_settings_are_refused(bundle: ModelBundle, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        generate(bundle, **{"steps": 1} | settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"like": A, "strength": 0.0},
        {"like": A, "strength": 1.5},
        {"like": A, "jitter": -0.1},
        {"like": A, "others": (B,), "mix": (0.5, 0.5)},
        {"like": A, "others": (B, C), "mix": (0.7, 0.7)},
        {"strength": 0.5},
        {"jitter": 0.5},
        {"others": (B,)},
    ],
)
def test_impossible_variations_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Variation(**settings)


def test_a_class_beside_a_radiograph_needs_a_start(image_class: ImageClass) -> None:
    for settings in ({"like": A}, {"like": A, "others": (B,), "strength": 0.5}):
        with pytest.raises(ConfigurationError, match="only be the start"):
            Variation(image_class=image_class, **settings)
