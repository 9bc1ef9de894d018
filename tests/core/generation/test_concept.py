"""A concept as a file and as a condition: what comes back, what is refused, what it weighs."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dino_diffusion.codes import Code
from dino_diffusion.errors import ConceptError
from dino_diffusion.generation import concept as concept_file
from dino_diffusion.generation.concept import MOST_VECTORS, Concept, model_id
from dino_diffusion.generation.conditioning import concept_condition, mean_concept, with_vectors
from dino_diffusion.generation.weighted import hash_of_concept
from dino_diffusion.models import Condition, EncoderOutput, Frame, ModelBundle
from tests.tiny import SIZE, smooth_picture, tiny_bundle

WIDTH, TOKENS = 32, 17


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture
def concept(bundle: ModelBundle) -> Concept:
    return make(bundle, 5)


def make(bundle: ModelBundle, count: int, seed: int = 0) -> Concept:
    vectors = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Concept("effusion", vectors, model_id(bundle), "ab" * 32, 12, 300, "CC0", "NIH", "fluid")


def pictures(count: int = 3) -> torch.Tensor:
    return torch.stack([torch.from_numpy(smooth_picture(seed)) for seed in range(count)])[:, None]


def frames(count: int = 2) -> torch.Tensor:
    return torch.tensor([Frame(size=SIZE).numbers()] * count)


def test_a_concept_comes_back_as_it_was_saved(concept: Concept, tmp_path: Path) -> None:
    coded = replace(concept, code=Code("60046008", "Pleural effusion"), settings={"seed": 3})
    again = Concept.load(coded.save(tmp_path / "effusion.safetensors"))
    assert torch.equal(again.vectors, coded.vectors)
    assert again.about() == coded.about()
    assert again.code == coded.code
    assert [path.name for path in tmp_path.iterdir()] == ["effusion.safetensors"]


def test_an_opposite_is_kept_with_the_concept(bundle: ModelBundle, tmp_path: Path) -> None:
    others = make(bundle, 2, 1), make(bundle, 3, 2)
    told_apart = make(bundle, 5).opposed_to(others)
    assert told_apart.against == "effusion, effusion"
    again = Concept.load(told_apart.save(tmp_path / "effusion.safetensors"))
    assert again.opposite is not None and torch.equal(again.vectors, told_apart.vectors)
    assert torch.equal(again.opposite, torch.cat([other.vectors for other in others]))
    assert again.about() == told_apart.about()


def test_an_opposite_of_another_model_or_none_is_refused(concept: Concept) -> None:
    for others in ([], [replace(concept, model="0" * 16)]):
        with pytest.raises(ConceptError, match="same model"):
            concept.opposed_to(others)


def test_a_recipe_tells_concepts_with_other_opposites_apart(bundle: ModelBundle) -> None:
    one, other = make(bundle, 2, 1), make(bundle, 2, 2)
    made = [one, other, one.opposed_to([other]), other.opposed_to([one])]
    assert len({hash_of_concept(concept) for concept in made}) == 4


def test_the_largest_concept_is_far_below_a_megabyte(tmp_path: Path) -> None:
    wide = Concept("wide", torch.zeros(MOST_VECTORS, 1024), "0" * 16)
    assert wide.save(tmp_path / "wide.safetensors").stat().st_size < 10**6


def test_one_that_would_be_larger_is_not_written(concept: Concept, tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="larger than 1 MB"):
        replace(concept, description="x" * 10**6).save(tmp_path / "effusion.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "../up"},
        {"name": "x" * 65},
        {"vectors": torch.zeros(0, 8)},
        {"vectors": torch.zeros(65, 8)},
        {"vectors": torch.zeros(8)},
        {"vectors": torch.full((2, 8), torch.nan)},
        {"vectors": torch.zeros(2, 8, dtype=torch.int64)},
        {"opposite": torch.zeros(0, WIDTH)},
        {"opposite": torch.zeros(2, WIDTH + 1)},
        {"opposite": torch.zeros(WIDTH)},
        {"opposite": torch.full((2, WIDTH), torch.inf)},
    ],
)
def test_what_is_no_concept_cannot_be_made(concept: Concept, change: dict[str, Any]) -> None:
    with pytest.raises(ConceptError):
        replace(concept, **change)


def saved_as(path: Path, tensors: dict[str, torch.Tensor], about: Any, kind: str, version: str) -> Path:
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(tensors, path, {"kind": kind, "format": version, "concept": text})
    return path


@pytest.mark.parametrize(
    ("tensors", "about", "kind", "version"),
    [
        ({"other": torch.zeros(2, 8)}, {}, concept_file.KIND, "1"),
        ({"opposite": torch.zeros(2, 8)}, None, concept_file.KIND, "1"),
        ({"vectors": torch.zeros(2, 8), "opposite": torch.zeros(2, 9)}, None, concept_file.KIND, "1"),
        ({"vectors": torch.zeros(2, 8)}, {}, "something else", "1"),
        ({"vectors": torch.zeros(2, 8)}, {}, concept_file.KIND, "2"),
        ({"vectors": torch.zeros(2, 8)}, "no json", concept_file.KIND, "1"),
        ({"vectors": torch.zeros(2, 8)}, [], concept_file.KIND, "1"),
        ({"vectors": torch.zeros(2, 8)}, {"name": "a", "model": 3}, concept_file.KIND, "1"),
        ({"vectors": torch.zeros(2, 2, 8)}, None, concept_file.KIND, "1"),
        ({"vectors": torch.full((2, 8), torch.inf)}, None, concept_file.KIND, "1"),
    ],
)
def test_every_defect_of_a_file_is_one_sentence(
    concept: Concept, tmp_path: Path, tensors: dict[str, torch.Tensor], about: Any, kind: str, version: str
) -> None:
    about = concept.about() if about is None else about
    path = saved_as(tmp_path / "a.safetensors", tensors, about, kind, version)
    with pytest.raises(ConceptError) as caught:
        Concept.load(path)
    assert "\n" not in str(caught.value)


def test_neither_a_pickle_nor_a_torn_nor_a_missing_file_is_read(concept: Concept, tmp_path: Path) -> None:
    whole = concept.save(tmp_path / "whole.safetensors").read_bytes()
    contents = {"torn": whole[: len(whole) // 2], "empty": b"", "pickle": pickle.dumps({"vectors": 1})}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "huge").write_bytes(bytes(2 * 10**6))
    for name in (*contents, "huge", "missing", "."):
        with pytest.raises(ConceptError, match="invert"):
            Concept.load(tmp_path / name)


def test_a_concept_of_another_bundle_is_refused(bundle: ModelBundle, concept: Concept) -> None:
    concept.check(bundle)
    with pytest.raises(ConceptError, match="learn it again"):
        concept.check(tiny_bundle(seed=1))
    with pytest.raises(ConceptError, match="width"):
        replace(concept, vectors=torch.zeros(2, 8)).check(bundle)


def test_the_prior_and_the_decoder_do_not_matter(bundle: ModelBundle) -> None:
    other = tiny_bundle()
    other.prior.mean.add_(1)
    other.autoencoder.synthesis.weight.add_(1)
    other.autoencoder.decoder.conv_in.weight.add_(1)
    assert model_id(other) == model_id(bundle) and other.observing_id == bundle.observing_id
    assert other.id != bundle.id
    last = tiny_bundle()
    last.autoencoder.analysis.weight.add_(1)
    assert model_id(last) != model_id(bundle) and last.observing_id != bundle.observing_id


# --- as a condition --------------------------------------------------------------------------------


def velocity(bundle: ModelBundle, condition: Condition) -> torch.Tensor:
    count = len(condition.tokens)
    x = torch.randn(1, *bundle.latent_shape, generator=torch.Generator().manual_seed(1)).expand(
        count, -1, -1, -1
    )
    with torch.no_grad():
        return bundle.denoiser(x, torch.full((count,), 0.5), condition)


@pytest.fixture(scope="module")
def encoded(bundle: ModelBundle) -> EncoderOutput:
    with torch.no_grad():
        return bundle.encoder(pictures(2))


def test_vectors_stand_where_cls_stands(
    bundle: ModelBundle, concept: Concept, encoded: EncoderOutput
) -> None:
    own = bundle.denoiser.condition(encoded, frames())
    made = concept_condition(bundle, concept, frames(), encoded)
    assert torch.equal(made.tokens[:, :5], concept.vectors.expand(2, -1, -1))
    assert torch.equal(made.tokens[:, 5:], own.tokens[:, 1:])
    assert torch.equal(made.frame, own.frame)


def test_without_an_image_every_patch_is_missing(bundle: ModelBundle, concept: Concept) -> None:
    made = concept_condition(bundle, concept, frames())
    assert torch.equal(made.tokens[:, 5:], bundle.denoiser.unconditional(frames()).tokens[:, 1:])


def test_without_a_concept_the_image_keeps_its_cls(bundle: ModelBundle, encoded: EncoderOutput) -> None:
    made = concept_condition(bundle, None, frames(), encoded)
    own = bundle.denoiser.condition(encoded, frames())
    assert torch.equal(made.tokens, own.tokens)
    assert made.bias is None


def test_missing_patches_are_missing_and_one_image_serves_all(
    bundle: ModelBundle, concept: Concept, encoded: EncoderOutput
) -> None:
    present = torch.ones(1, TOKENS, dtype=torch.bool)
    present[:, 6:9] = False
    one = EncoderOutput(encoded.cls[:1], encoded.patches[:1])
    made = concept_condition(bundle, concept, frames(3), one, present)
    nothing = bundle.denoiser.unconditional(frames(3)).tokens
    own = bundle.denoiser.condition(one, frames(1)).tokens
    assert torch.equal(made.tokens[:, 5 + 5 : 5 + 8], nothing[:, 6:9])
    assert torch.equal(made.tokens[:, 5 + 8 :], own[:, 9:].expand(3, -1, -1))


def test_equal_vectors_weigh_together_as_much_as_one(bundle: ModelBundle, encoded: EncoderOutput) -> None:
    condition = bundle.denoiser.condition(encoded, frames())
    one = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0))
    single, many = (velocity(bundle, with_vectors(condition, one.expand(k, -1))) for k in (1, 16))
    assert torch.allclose(single, many, atol=1e-4)
    assert not torch.allclose(single, velocity(bundle, condition), atol=1e-4)


def test_conditions_of_different_lengths_share_a_batch_unchanged(bundle: ModelBundle) -> None:
    conditions = [concept_condition(bundle, make(bundle, k, seed=k), frames(1)) for k in (1, 3, 20)]
    conditions.append(bundle.denoiser.unconditional(frames(1)))
    together = velocity(bundle, Condition.cat(conditions))
    alone = torch.cat([velocity(bundle, condition) for condition in conditions])
    assert torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)
    repeated = Condition.cat(conditions).repeat(2)
    assert torch.allclose(velocity(bundle, repeated), alone.repeat_interleave(2, 0), atol=1e-4)


def test_equal_conditions_without_bias_stay_without(bundle: ModelBundle) -> None:
    condition = bundle.denoiser.unconditional(frames(1))
    assert Condition.cat([condition, condition]).bias is None


def test_gradients_reach_the_vectors(bundle: ModelBundle) -> None:
    vectors = torch.zeros(4, WIDTH, requires_grad=True)
    condition = with_vectors(bundle.denoiser.unconditional(frames()), vectors)
    bundle.denoiser(
        torch.randn(2, *bundle.latent_shape), torch.full((2,), 0.5), condition
    ).square().sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0


def test_the_mean_of_one_picture_is_its_own_cls(bundle: ModelBundle, encoded: EncoderOutput) -> None:
    single = mean_concept(bundle, pictures(1), "one", licence="CC0")
    own = bundle.denoiser.condition(encoded, frames()).tokens[:1, 0]
    assert torch.allclose(single.vectors, own, atol=1e-5)
    assert (single.images, single.steps, single.licence) == (1, 0, "CC0")
    single.check(bundle)
    many = mean_concept(bundle, pictures(12), "many")
    assert many.vectors.shape == (1, WIDTH)
    assert not torch.allclose(many.vectors, single.vectors)
