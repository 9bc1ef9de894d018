"""Stable Diffusion checkpoints: foreign embeddings, the way to rectified flow, painting, inversion."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

from dino_diffusion.errors import BundleError, Cancelled, ConceptError, ConfigurationError, RadiographError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.stable_diffusion.backbone import StableDiffusion
from dino_diffusion.generation.stable_diffusion.channels import read_channels, square
from dino_diffusion.generation.stable_diffusion.embedding import load_embedding, save_learned_embeds
from dino_diffusion.generation.stable_diffusion.invert import invert, word_vectors
from dino_diffusion.generation.stable_diffusion.paint import PaintSettings, inpaint, interpolate, paint
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SAMPLERS, noised, time_grid
from tests.core.generation.tiny_stable_diffusion import LENGTH, SIZE, WIDTH, saved_checkpoint
from tests.tiny import smooth_picture

FAST = PaintSettings(steps=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_checkpoint(tmp_path_factory.mktemp("checkpoint") / "sd")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> StableDiffusion:
    return StableDiffusion.from_pretrained(folder)


def concept(name: str = "effusion", count: int = 5, seed: int = 0) -> Concept:
    return Concept(name, torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)), "")


# --- foreign embeddings ----------------------------------------------------------------------------


def published(path: Path, **changes: object) -> Path:
    """The layout of AUTOMATIC1111's web UI, as the published medical embeddings have it."""
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.randn(64, 1024, requires_grad=True)},
        "name": "chexpert-pleural-effusion",
        "step": 50000,
        "sd_checkpoint": "4bdfc29c",
        "sd_checkpoint_name": "512-base-ema",
    }
    torch.save(content | changes, path)
    return path


def test_the_published_layout_is_read(tmp_path: Path) -> None:
    path = published(tmp_path / "a.pt")
    found = load_embedding(path)
    assert found.vectors.shape == (64, 1024)
    assert found.vectors.dtype == torch.float32
    assert not found.vectors.requires_grad
    assert (found.name, found.model) == ("chexpert-pleural-effusion", "")
    expected = torch.load(path, weights_only=True)["string_to_param"]["*"]
    assert torch.equal(found.vectors, expected)


def test_a_program_in_a_file_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Malicious:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {witness}",)

    for number, content in enumerate(
        [Malicious(), {"string_to_param": {"*": Malicious()}, "name": "a"}, {"name": Malicious()}]
    ):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        with pytest.raises(ConceptError, match="perhaps a program"):
            load_embedding(path)
    assert not witness.exists()
    torch.load(tmp_path / "0.pt", weights_only=False)
    assert witness.exists(), "the file would have run, had it been opened carelessly"


@pytest.mark.parametrize("shape", [(64, 1024), (768,)])
def test_diffusers_files_are_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    vectors = torch.randn(shape)
    save_file({"<Pleural/Effusion>": vectors}, tmp_path / "learned_embeds.safetensors")
    torch.save({"<Pleural/Effusion>": vectors}, tmp_path / "learned_embeds.bin")
    for name in ("learned_embeds.safetensors", "learned_embeds.bin"):
        found = load_embedding(tmp_path / name)
        assert found.name == "Pleural-Effusion"
        assert torch.equal(found.vectors, vectors.reshape(-1, shape[-1]))


def test_automatic1111_safetensors_are_called_after_their_file(tmp_path: Path) -> None:
    save_file({"emb_params": torch.randn(4, 768)}, tmp_path / "lung.safetensors")
    assert load_embedding(tmp_path / "lung.safetensors").name == "lung"


def test_own_concepts_go_there_and_back(tmp_path: Path) -> None:
    own = replace(concept(), model="0123456789abcdef", licence="CC0")
    again = load_embedding(own.save(tmp_path / "own.safetensors"))
    assert again.about() == own.about()
    foreign = load_embedding(save_learned_embeds(own, tmp_path / "learned_embeds.safetensors"))
    assert torch.equal(foreign.vectors, own.vectors)
    assert (foreign.name, foreign.model) == ("effusion", "")


def test_what_is_no_embedding_is_one_sentence(tmp_path: Path) -> None:
    save_file({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)}, tmp_path / "xl.safetensors")
    save_file({"a": torch.zeros(2, 4), "b": torch.zeros(2, 4)}, tmp_path / "two.safetensors")
    save_file({"a": torch.zeros(2, 4, dtype=torch.int32)}, tmp_path / "int.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1, "b": 2}, tmp_path / "other.pt")
    published(tmp_path / "numbers.pt", string_to_param={"*": [1.0, 2.0]})
    published(tmp_path / "nan.pt", string_to_param={"*": torch.full((2, 8), torch.nan)})
    published(tmp_path / "long.pt", string_to_param={"*": torch.zeros(65, 8)})
    (tmp_path / "torn.pt").write_bytes(published(tmp_path / "whole.pt").read_bytes()[:1000])
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    (tmp_path / "empty.pt").write_bytes(b"")
    with open(tmp_path / "huge.pt", "wb") as file:
        file.truncate(10**9)
    for path in [*sorted(set(tmp_path.iterdir()) - {tmp_path / "whole.pt"}), tmp_path / "missing.pt"]:
        with pytest.raises(ConceptError) as caught:
            load_embedding(path)
        assert "\n" not in str(caught.value), path


# --- the checkpoint --------------------------------------------------------------------------------


def test_it_knows_its_sizes(backbone: StableDiffusion) -> None:
    assert (backbone.width, backbone.length, backbone.factor, backbone.size) == (WIDTH, LENGTH, 8, SIZE)


def test_bad_checkpoints_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="text-to-image"):
        StableDiffusion.from_pretrained(saved_checkpoint(tmp_path / "inpainting", channels=9))
    with pytest.raises(BundleError, match="'tokenizer' cannot be read"):
        StableDiffusion.from_pretrained(tmp_path / "nowhere")
    pickled = saved_checkpoint(tmp_path / "pickled")
    for path in (pickled / "unet").glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(BundleError, match="'unet' cannot be read"):
        StableDiffusion.from_pretrained(pickled)


def test_concepts_need_the_width_and_the_text_encoder(backbone: StableDiffusion) -> None:
    backbone.check(concept())
    backbone.check(replace(concept(), model=backbone.id))
    with pytest.raises(ConceptError, match="width 8"):
        backbone.check(replace(concept(), vectors=torch.zeros(2, 8)))
    with pytest.raises(ConceptError, match="learn it again"):
        backbone.check(replace(concept(), model="0" * 16))


def test_vectors_of_a_word_give_the_words_text(backbone: StableDiffusion) -> None:
    """What a concept does to a prompt is what its vectors would do as words."""
    text = backbone.condition(None, "a lung of x")
    vectors = word_vectors(backbone, "lung", 4)
    assert torch.allclose(backbone.condition(vectors, "a {} of x"), text, atol=1e-5)
    assert not torch.allclose(backbone.condition(concept().vectors, "a {} of x"), text, atol=1e-2)
    assert torch.equal(backbone.condition(None, "a lung of x"), text), "the encoder is as it was"


def test_prompts_that_are_too_long_or_have_no_place_are_refused(backbone: StableDiffusion) -> None:
    assert backbone.condition(torch.zeros(64, WIDTH), "x-ray of {}").shape == (1, LENGTH, WIDTH)
    with pytest.raises(ConfigurationError, match="shorten the prompt"):
        backbone.condition(torch.zeros(64, WIDTH), "a radiograph of {}")
    with pytest.raises(ConfigurationError, match="has no"):
        backbone.condition(torch.zeros(1, WIDTH), "an x-ray")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sampling_is_diffusers_own_ddim(tmp_path: Path, prediction: str) -> None:
    """Euler's steps on the straight path are deterministic DDIM: the same latents as diffusers' scheduler."""
    backbone = StableDiffusion.from_pretrained(saved_checkpoint(tmp_path / "sd", prediction=prediction))
    condition = backbone.condition(concept().vectors)
    eps = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler = DDIMScheduler.from_config(
        backbone.scheduler.config, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading"
    )
    scheduler.set_timesteps(8)
    z = eps
    with torch.no_grad():
        for step in scheduler.timesteps:
            predicted = backbone.denoiser(z, step, encoder_hidden_states=condition).sample
            z = scheduler.step(predicted, step, z).prev_sample
    kept = backbone.scheduler.alphas_cumprod[scheduler.timesteps].double()
    ratios = ((1 - kept) / kept).sqrt()
    times = torch.cat([ratios / (1 + ratios), torch.zeros(1)])
    assert torch.allclose(backbone.timesteps(times[:-1]), scheduler.timesteps.double(), atol=1e-3)
    start = eps * float((times[0] ** 2 + (1 - times[0]) ** 2).sqrt())
    found = SAMPLERS["euler"](lambda x, t: backbone.velocity(x, t, condition), start, times)
    assert torch.allclose(found, z, atol=1e-2 * float(z.std()))


def test_the_velocity_undoes_the_noise_for_a_perfect_network(
    backbone: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, eps = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))

    class Perfect(torch.nn.Module):
        config = backbone.denoiser.config

        def forward(self, z: torch.Tensor, step: torch.Tensor, **_: object) -> object:
            return type("Output", (), {"sample": eps})

    monkeypatch.setattr(backbone, "denoiser", Perfect())
    t = torch.tensor([0.3, 0.8])
    found = backbone.velocity(noised(clean, eps, t), t, torch.zeros(1))
    assert torch.allclose(found, eps - clean, atol=1e-4)


# --- painting --------------------------------------------------------------------------------------


def test_pictures_follow_concept_seed_and_prompt(backbone: StableDiffusion) -> None:
    one = paint(backbone, [(concept(), 1.0)], FAST)
    assert one.pixels.shape == (3, SIZE, SIZE)
    assert np.array_equal(one.pixels, paint(backbone, [(concept(), 1.0)], FAST).pixels)
    for other in (
        paint(backbone, [(concept(seed=1), 1.0)], FAST),
        paint(backbone, [(concept(), 1.0)], FAST, number=1),
        paint(backbone, [(concept(), 1.0)], replace(FAST, prompt="x {}")),
        paint(backbone, [(concept(), 0.6), (concept("healthy", 2, 1), 0.4)], FAST),
    ):
        assert not np.allclose(one.pixels, other.pixels)
    assert one.recipe.parameters["concepts"] == [["effusion", 1.0]]


def test_a_strip_changes_gradually(backbone: StableDiffusion) -> None:
    frames = interpolate(backbone, concept(seed=1), concept(seed=2), 4, FAST)
    pictures = np.stack([frame.pixels for frame in frames])
    assert np.array_equal(
        pictures[0], paint(backbone, [(concept(seed=1), 1.0), (concept(), 0.0)], FAST).pixels
    )
    steps = np.abs(np.diff(pictures, axis=0)).mean((1, 2, 3))
    assert 0 < steps.max() < np.abs(pictures[-1] - pictures[0]).mean()


def test_outside_the_mask_every_value_stays(backbone: StableDiffusion) -> None:
    picture = np.stack([smooth_picture(seed, 45, 38) for seed in range(3)])
    mask = np.zeros((45, 38), bool)
    mask[10:30, 8:20] = True
    made = inpaint(backbone, picture, mask, [(concept(), 1.0)], FAST)
    assert np.array_equal(made.pixels[:, ~mask], picture[:, ~mask])
    assert not np.allclose(made.pixels[:, mask], picture[:, mask], atol=0.01)
    other = inpaint(backbone, picture, mask, [(concept(), 1.0)], FAST, number=1)
    assert not np.array_equal(other.pixels, made.pixels)


def test_impossible_wishes_are_refused(backbone: StableDiffusion) -> None:
    picture, mask = np.zeros((3, 32, 32), np.float32), np.ones((32, 32), bool)
    weighted = [(concept(), 1.0)]
    for call in (
        lambda: PaintSettings(steps=0),
        lambda: PaintSettings(sampler="none"),
        lambda: paint(backbone, [], FAST),
        lambda: paint(backbone, weighted, replace(FAST, size=33)),
        lambda: interpolate(backbone, concept(), concept(), 1, FAST),
        lambda: inpaint(backbone, picture[:1], mask, weighted, FAST),
        lambda: inpaint(backbone, picture, ~mask, weighted, FAST),
        lambda: inpaint(backbone, picture, mask[:16], weighted, FAST),
        lambda: inpaint(backbone, picture, mask, weighted, FAST, strength=0),
    ):
        with pytest.raises(ConfigurationError):
            call()
    with pytest.raises(Cancelled):
        paint(backbone, weighted, FAST, callback=lambda step: False)


# --- learning --------------------------------------------------------------------------------------


def pictures(count: int = 3) -> list[Radiograph]:
    return [Radiograph.from_array(smooth_picture(seed, 50, 40)) for seed in range(count)]


def test_a_concept_is_learnt_and_used(backbone: StableDiffusion, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in backbone.text_encoder.state_dict().items()}
    learnt = invert(backbone, pictures(), "waves", vectors=6, steps=4, prompt="x-ray of {}", licence="CC0")
    assert learnt.vectors.shape == (6, WIDTH)
    assert (learnt.images, learnt.steps, learnt.licence, learnt.model) == (3, 4, "CC0", backbone.id)
    assert not torch.allclose(learnt.vectors, word_vectors(backbone, "radiograph", 6))
    after = backbone.text_encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = Concept.load(learnt.save(tmp_path / "waves.safetensors"))
    assert paint(backbone, [(again, 1.0)], FAST).pixels.shape == (3, SIZE, SIZE)


def test_learning_lowers_the_loss(backbone: StableDiffusion) -> None:
    losses: list[float] = []
    invert(
        backbone, pictures(1), "waves", 8, 60, callback=lambda step, total, loss: losses.append(loss or 0.0)
    )
    assert np.mean(losses[-15:]) < np.mean(losses[:15])


def test_a_stopped_run_goes_on(backbone: StableDiffusion, tmp_path: Path) -> None:
    whole = invert(backbone, pictures(2), "waves", 2, 4)
    with pytest.raises(Cancelled):
        invert(backbone, pictures(2), "waves", 2, 4, 0, lambda step, *_: step < 2, tmp_path)
    assert torch.equal(invert(backbone, pictures(2), "waves", 2, 4, folder=tmp_path).vectors, whole.vectors)
    with pytest.raises(ConfigurationError, match="other pictures"):
        invert(backbone, pictures(3), "waves", 2, 4, folder=tmp_path)


def test_three_sequences_make_three_channels(backbone: StableDiffusion) -> None:
    sequences = pictures(3)
    channels, hashes = read_channels(sequences)
    assert channels.shape == (3, 50, 40)
    assert hashes == tuple(sequence.source.sha256 for sequence in sequences)
    assert not np.allclose(channels[0], channels[1])
    grey, _ = read_channels(sequences[0])
    assert np.array_equal(grey[0], grey[2])
    assert square(channels, 32).shape == (1, 3, 32, 32)
    learnt = invert(backbone, [sequences, sequences], "prostate", 2, 1)
    assert learnt.images == 2


def test_sequences_must_be_three_on_one_grid() -> None:
    with pytest.raises(RadiographError, match="three channels"):
        read_channels(pictures(2))
    other = Radiograph.from_array(smooth_picture(0, 40, 40))
    with pytest.raises(RadiographError, match="resample"):
        read_channels([*pictures(2), other])


@pytest.mark.parametrize("wish", [{"vectors": 0}, {"vectors": 65}, {"steps": 0}, {"name": "a/b"}])
def test_impossible_inversions_are_refused(backbone: StableDiffusion, wish: dict) -> None:
    with pytest.raises(ConceptError):
        invert(backbone, **({"pictures": pictures(1), "name": "waves", "vectors": 2} | wish))


def test_time_grids_start_where_the_checkpoint_ends(backbone: StableDiffusion) -> None:
    assert 0.9 < backbone.noisiest < 1
    grid = time_grid(4, t_start=backbone.noisiest)
    steps = backbone.timesteps(grid[:-1])
    assert steps[0] == pytest.approx(999, abs=1e-2)
    assert (steps.diff() < 0).all()
