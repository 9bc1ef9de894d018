"""Tokens that a frozen denoiser's cross-attention is asked for."""

from __future__ import annotations

import pytest
import torch

from dino_diffusion.attention import capture_attention
from dino_diffusion.evaluation import segment_tokens
from dino_diffusion.evaluation.segment_tokens import SegmentTokens, fit_tokens, queries_of
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.features import Encoded
from dino_diffusion.segmentation.observation import observe
from tests.tiny import smooth_picture, tiny_bundle

GRID = (16, 16)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def encoded(bundle: ModelBundle) -> Encoded:
    seen = [observe(bundle, Radiograph.from_array(smooth_picture(number))) for number in range(4)]
    return Encoded.cat([each.encoded for each in seen])


def test_queries_and_keys_are_those_of_the_model(bundle: ModelBundle, encoded: Encoded) -> None:
    """Asked for the tokens that the model got, each a class, a layer of one head matches them as it does."""
    one = encoded[0]
    with torch.no_grad(), capture_attention(bundle.denoiser.unet, kind="cross") as maps:
        one.pass_through(bundle.denoiser, 0.1, torch.Generator().manual_seed(0))
    own = next(found for found in maps if found.layer.startswith("up_blocks.2"))
    names = [name for name, _ in bundle.denoiser.unet.named_modules() if name.endswith("attn2")]
    layer = names.index(own.layer)
    queries = queries_of(bundle.denoiser, one, 0.1, torch.Generator().manual_seed(0))
    tokens = SegmentTokens(bundle.denoiser, 1)
    assert len(tokens.attentions) == len(queries) == len(names) and tokens.attentions[layer].heads == 1
    tokens.attentions = [tokens.attentions[layer]]
    tokens.tokens = torch.nn.Parameter(bundle.denoiser.condition(one.tokens, one.frames).tokens[0][:, None])
    weights = tokens([queries[layer]], own.resolution).softmax(1).flatten(2).mT
    assert torch.allclose(weights, own.weights[:, 0], atol=1e-5)


def test_tokens_learn_what_labels_say_and_the_model_stays(
    bundle: ModelBundle, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_tokens, "STEPS", 60)
    queries = [
        queries_of(bundle.denoiser, encoded[number], 0.1, torch.Generator().manual_seed(0))
        for number in range(4)
    ]
    shares = torch.zeros(4, 2, *GRID)
    shares[:, 0, :, : GRID[1] // 2] = 1
    shares[:, 1] = 1 - shares[:, 0]
    before = bundle.id
    state = torch.random.get_rng_state()
    fitted = fit_tokens(bundle.denoiser, queries, shares)
    assert torch.equal(torch.random.get_rng_state(), state) and bundle.id == before
    assert all(weight.grad is None for weight in bundle.denoiser.parameters()), "gradients were left behind"
    together = [torch.cat(layer) for layer in zip(*queries, strict=True)]
    agreement = (fitted(together, GRID).argmax(1) == shares.argmax(1)).float().mean()
    untaught = SegmentTokens(bundle.denoiser, 2)(together, GRID).argmax(1)
    assert agreement > (untaught == shares.argmax(1)).float().mean()
    assert agreement > 0.6
    again = fit_tokens(bundle.denoiser, queries, shares)
    assert torch.equal(again.tokens, fitted.tokens), "the same seed gives the same tokens"
