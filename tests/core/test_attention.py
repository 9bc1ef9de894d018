"""Capture of attention and features on a tiny random U-Net."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn

from dino_diffusion import attention
from dino_diffusion.attention import (
    AttentionMemoryError,
    capture_attention,
    capture_features,
    token_grid,
)
from dino_diffusion.errors import ConfigurationError

HEADS, TOKENS = 2, 5


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=HEADS,
    )
    return model.eval()


def inputs(
    batch: int = 2, size: tuple[int, int] = (8, 8), t: float | Tensor = 0.5
) -> dict[str, Tensor | float]:
    generator = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(batch, 4, *size, generator=generator),
        "timestep": t,
        "encoder_hidden_states": torch.randn(batch, TOKENS, 8, generator=generator),
    }


@torch.no_grad()
def run(unet: nn.Module, **kwargs: object) -> Tensor:
    return unet(**(inputs() | kwargs)).sample


def state_of(module: nn.Module) -> list[object]:
    """Processors and hooks, by identity."""
    found: list[object] = []
    for child in module.modules():
        found += [id(child.processor)] if isinstance(child, Attention) else []
        found += [dict(child._forward_hooks), dict(child._forward_pre_hooks), sorted(vars(child))]
        found += [dict(child._forward_hooks_with_kwargs), dict(child._forward_pre_hooks_with_kwargs)]
        found += [dict(child._forward_hooks_always_called)]
    return found


@contextmanager
def left_as_found(unet: UNet2DConditionModel) -> Iterator[None]:
    """Fails unless the model is the same object graph, and computes the same bits, afterwards."""
    state, output = state_of(unet), run(unet)
    yield
    assert state_of(unet) == state
    assert torch.equal(run(unet), output)


# --- the maps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("average_heads", "heads"), [(True, 1), (False, HEADS)])
def test_shapes_resolutions_and_rows_that_sum_to_one(
    unet: UNet2DConditionModel, average_heads: bool, heads: int
) -> None:
    with left_as_found(unet), capture_attention(unet, average_heads=average_heads) as maps:
        run(unet)
    assert {m.resolution for m in maps} == {(8, 8), (4, 4)}
    assert {m.kind for m in maps} == {"self", "cross"}
    assert len(maps) == sum(isinstance(module, Attention) for module in unet.modules())
    for found in maps:
        queries = found.resolution[0] * found.resolution[1]
        assert found.weights.shape == (2, heads, queries, queries if found.kind == "self" else TOKENS)
        assert found.weights.min() >= 0
        torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, heads, queries))


def test_maps_are_those_the_model_uses(unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against diffusers' own unfused processor, masked tokens included."""
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, 3:] = False
    used: list[Tensor] = []
    original = Attention.get_attention_scores

    def spy(self: Attention, *args: Tensor) -> Tensor:
        used.append(original(self, *args))
        return used[-1]

    fused = dict(unet.attn_processors)
    monkeypatch.setattr(Attention, "get_attention_scores", spy)
    unet.set_attn_processor(AttnProcessor())
    try:
        with capture_attention(unet, average_heads=False) as maps:
            run(unet, encoder_attention_mask=mask)
    finally:
        unet.set_attn_processor(fused)
    assert len(used) == len(maps)
    for found, reference in zip(maps, used, strict=True):
        torch.testing.assert_close(found.weights.flatten(0, 1), reference)
    masked = [m.weights[1, :, :, 3:] for m in maps if m.kind == "cross"]
    assert max(weights.max().item() for weights in masked) < 1e-6


def test_averaged_heads_are_the_mean_of_heads(unet: UNet2DConditionModel) -> None:
    with capture_attention(unet) as mean, capture_attention(unet, average_heads=False) as each:
        run(unet)
    for one, all_heads in zip(mean, each, strict=True):
        torch.testing.assert_close(one.weights, all_heads.weights.mean(1, keepdim=True))


def test_output_is_bit_identical_while_capturing(unet: UNet2DConditionModel) -> None:
    plain = run(unet)
    with capture_attention(unet), capture_features(unet, ["mid_block"]):
        assert torch.equal(run(unet), plain)


def test_images_of_a_batch_do_not_mix(unet: UNet2DConditionModel) -> None:
    both = inputs()
    with capture_attention(unet) as together:
        run(unet)
    with capture_attention(unet) as alone:
        run(unet, sample=both["sample"][1:], encoder_hidden_states=both["encoder_hidden_states"][1:])
    for two, one in zip(together, alone, strict=True):
        torch.testing.assert_close(two.weights[1:], one.weights, atol=1e-5, rtol=1e-5)


def test_oblong_samples_have_oblong_resolutions(unet: UNet2DConditionModel) -> None:
    with capture_attention(unet, kind="self") as maps:
        run(unet, **inputs(size=(12, 6)))
    assert {m.resolution for m in maps} == {(12, 6), (6, 3)}


def test_attention_on_pictures_is_read_too() -> None:
    """AttnDownBlock2D hands (B, C, h, w) with a group norm to its attention, not tokens."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
    ).eval()
    with (
        left_as_found(unet),
        capture_attention(unet, kind="self", layers=["down_blocks", "up_blocks"]) as maps,
    ):
        run(unet)
    assert maps
    for found in maps:
        queries = found.resolution[0] * found.resolution[1]
        assert found.weights.shape == (2, 1, queries, queries)
        torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, 1, queries))


# --- what is captured ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_kind_selects(unet: UNet2DConditionModel, kind: str) -> None:
    with capture_attention(unet, kind=kind) as maps:
        run(unet)
    assert {m.kind for m in maps} == {kind}
    assert all(m.layer.endswith("attn1" if kind == "self" else "attn2") for m in maps)


@pytest.mark.parametrize(
    "layers",
    [
        [4],
        [(4, 4)],
        ["down_blocks.1", "mid_block", "up_blocks.0"],
        lambda layer, resolution: resolution == (4, 4),
    ],
    ids=["side", "resolution", "names", "predicate"],
)
def test_layers_select(unet: UNet2DConditionModel, layers: object) -> None:
    with capture_attention(unet, layers=layers) as maps:
        run(unet)
    with capture_attention(unet) as everything:
        run(unet)
    assert [m.layer for m in maps] == [m.layer for m in everything if m.resolution == (4, 4)]


def test_a_name_means_whole_parts_and_may_stand_alone(unet: UNet2DConditionModel) -> None:
    with capture_attention(unet, layers="up_blocks.1") as maps:
        run(unet)
    assert maps and all(m.layer.startswith("up_blocks.1.") for m in maps)
    with (
        pytest.raises(ConfigurationError, match="no attention layer 'up_block'"),
        left_as_found(unet),
        capture_attention(unet, layers=["up_block"]),
    ):
        run(unet)


def test_layers_not_asked_for_compute_no_maps(
    unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    original = attention._attention_weights

    def spy(attn: Attention, *args: object) -> Tensor:
        computed.append("map")
        return original(attn, *args)

    monkeypatch.setattr(attention, "_attention_weights", spy)
    with capture_attention(unet, kind="self", layers=["mid_block"]) as maps:
        run(unet)
    assert len(computed) == len(maps) == 1


def test_calls_and_timesteps_are_labelled(unet: UNet2DConditionModel) -> None:
    both = inputs()
    with capture_attention(unet, kind="self", layers=["mid_block"]) as maps:
        run(unet, timestep=0.75)
        run(unet, timestep=torch.tensor([0.5, 0.25]))
        with torch.no_grad():
            unet(both["sample"], 3, both["encoder_hidden_states"])
    assert [m.call for m in maps] == [0, 1, 2]
    assert [m.timesteps for m in maps] == [(0.75, 0.75), (0.5, 0.25), (3.0, 3.0)]


def test_timesteps_select_calls(unet: UNet2DConditionModel) -> None:
    with capture_attention(unet, layers=["mid_block"], kind="self", timesteps=(0.25, 0.5)) as maps:
        for t in (1.0, 0.5, 0.25, 0.125):
            run(unet, timestep=t)
    assert [(m.call, m.timesteps[0]) for m in maps] == [(1, 0.5), (2, 0.25)]


def test_storage_is_detached_and_of_the_asked_dtype(unet: UNet2DConditionModel) -> None:
    with capture_attention(unet, dtype=torch.float16) as maps:
        unet(**inputs())
    assert {m.weights.dtype for m in maps} == {torch.float16}
    assert not any(m.weights.requires_grad for m in maps)
    assert maps.used_bytes == sum(m.weights.nbytes for m in maps)


# --- restoring, nesting, errors --------------------------------------------------------------------


def test_nested_captures_each_get_their_own(unet: UNet2DConditionModel) -> None:
    with left_as_found(unet):
        with capture_attention(unet, kind="cross") as outer:
            with capture_attention(unet, kind="self", layers=[8]) as inner:
                run(unet)
            run(unet)
        run(unet)
    assert {m.call for m in outer} == {0, 1} and {m.call for m in inner} == {0}
    assert {m.kind for m in outer} == {"cross"}
    assert {(m.kind, m.resolution) for m in inner} == {("self", (8, 8))}


def test_a_capture_sees_the_calls_of_its_own_thread_alone(unet: UNet2DConditionModel) -> None:
    with ThreadPoolExecutor(1) as other, left_as_found(unet):
        with capture_attention(unet) as maps, capture_features(unet, ["mid_block"]) as features:
            other.submit(run, unet).result()
            assert not maps and not features
            run(unet)
        assert {record.call for record in (*maps, *features)} == {0}


def test_restored_after_an_exception_in_the_block(unet: UNet2DConditionModel) -> None:
    with left_as_found(unet):
        with pytest.raises(ZeroDivisionError), capture_attention(unet), capture_features(unet, ["mid_block"]):
            run(unet)
            raise ZeroDivisionError
        with pytest.raises(RuntimeError), capture_attention(unet):
            run(unet, encoder_hidden_states=torch.zeros(2, TOKENS, 3))


def test_memory_limit_names_the_layer_and_keeps_what_fitted(unet: UNet2DConditionModel) -> None:
    layer = 2 * 64 * 64 * 4
    with left_as_found(unet):
        with capture_attention(unet, kind="self", layers=[8], max_bytes=2 * layer) as maps:
            with pytest.raises(AttentionMemoryError, match="max_bytes"):
                run(unet)
            assert len(maps) == 2 and maps.used_bytes == 2 * layer
            maps.clear()
            assert not maps and maps.used_bytes == 0
        with capture_attention(unet, kind="self", layers=[8], max_bytes=3 * layer) as maps:
            run(unet)
        assert maps.used_bytes == 3 * layer


def test_an_attention_that_cannot_be_read_is_refused_and_nothing_is_changed(
    unet: UNet2DConditionModel,
) -> None:
    class Foreign(AttnProcessor):
        pass

    last = [module for module in unet.modules() if isinstance(module, Attention)][-1]
    original = last.processor
    last.processor = Foreign()
    try:
        with (
            left_as_found(unet),
            pytest.raises(ConfigurationError, match="set_default_attn_processor"),
            capture_attention(unet),
        ):
            run(unet)
    finally:
        last.processor = original


def test_a_call_past_the_captured_module_is_an_error(unet: UNet2DConditionModel) -> None:
    wrapper = nn.ModuleDict({"unet": unet})
    with (
        pytest.raises(ConfigurationError, match="capture the module that is called"),
        capture_attention(wrapper),
    ):
        run(unet)


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (64, (8, 8), (8, 8)),
        (18, (12, 6), (6, 3)),
        (6, (12, 6), (3, 2)),
        (8, (7, 3), (4, 2)),
        (1, (8, 8), (1, 1)),
    ],
)
def test_token_grid_follows_the_halvings(tokens: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert token_grid(tokens, size) == grid


@pytest.mark.parametrize("tokens", [0, 5, 17, 100])
def test_tokens_that_are_no_grid_are_refused(tokens: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{tokens} tokens"):
        token_grid(tokens, (8, 8))


# --- features --------------------------------------------------------------------------------------


def test_features_are_the_outputs_with_their_resolution(unet: UNet2DConditionModel) -> None:
    names = [
        "down_blocks.0",
        "mid_block",
        "up_blocks.1",
        "up_blocks.1.resnets.0",
        "down_blocks.1.attentions.0",
    ]
    with left_as_found(unet), capture_features(unet, names) as features:
        run(unet, timestep=0.25)
    shapes = {f.name: (tuple(f.values.shape), f.resolution) for f in features}
    assert shapes == {
        "down_blocks.0": ((2, 8, 4, 4), (4, 4)),
        "mid_block": ((2, 16, 4, 4), (4, 4)),
        "up_blocks.1": ((2, 8, 8, 8), (8, 8)),
        "up_blocks.1.resnets.0": ((2, 8, 8, 8), (8, 8)),
        "down_blocks.1.attentions.0": ((2, 16, 4, 4), (4, 4)),
    }
    assert {(f.call, f.timesteps) for f in features} == {(0, (0.25, 0.25))}


def test_token_features_become_pictures(unet: UNet2DConditionModel) -> None:
    block = "mid_block.attentions.0.transformer_blocks.0"
    with capture_features(unet, [block]) as features:
        seen: list[Tensor] = []
        handle = unet.get_submodule(block).register_forward_hook(lambda m, i, out: seen.append(out))
        run(unet, **inputs(size=(12, 6)))
        handle.remove()
    assert features[0].values.shape == (2, 16, 6, 3)
    assert torch.equal(features[0].values[:, :, 4, 2], seen[0][:, 4 * 3 + 2])


def test_features_are_copies(unet: UNet2DConditionModel) -> None:
    first = "conv_in"
    with capture_features(unet, [first]) as features:
        handle = unet.get_submodule(first).register_forward_hook(lambda m, i, out: out.zero_())
        run(unet)
        handle.remove()
    assert features[0].values.abs().sum() > 0


def test_feature_errors_restore_the_model(unet: UNet2DConditionModel) -> None:
    with left_as_found(unet):
        with (
            pytest.raises(ConfigurationError, match="no submodule 'middle'"),
            capture_features(unet, ["middle"]),
        ):
            run(unet)
        with (
            pytest.raises(ConfigurationError, match="time_embedding"),
            capture_features(unet, ["time_embedding"]),
        ):
            run(unet)
        with pytest.raises(AttentionMemoryError), capture_features(unet, ["mid_block"], max_bytes=100):
            run(unet)
