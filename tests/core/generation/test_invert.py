"""Learning a concept: it fits its pictures better than their mean, repeats, goes on, stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dino_diffusion.errors import Cancelled, ConceptError, ConfigurationError, RadiographError
from dino_diffusion.generation import invert as module
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.inversion import ConceptPart, InversionSettings, concept_loss
from dino_diffusion.generation.invert import invert, run_settings
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.training.latents import load_cache
from dino_diffusion.training.loop import Step
from tests.tiny import smooth_picture, tiny_bundle

FAST = {"vectors": 3, "steps": 6, "seed": 1}


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def pictures() -> list[Radiograph]:
    """Large enough for crops."""
    return [Radiograph.from_array(smooth_picture(seed, 120, 100)) for seed in range(4)]


def test_the_learnt_concept_beats_the_class_mean(
    bundle: ModelBundle, pictures: list[Radiograph], tmp_path: Path
) -> None:
    learnt = invert(bundle, pictures, "waves", vectors=4, steps=40, folder=tmp_path, licence="CC0")
    assert learnt.vectors.shape == (4, 32)
    figures = learnt.settings["figures"]
    assert figures["flow"] < figures["flow_class_mean"]
    cache = load_cache(tmp_path / "latents", (bundle.size,))
    part = ConceptPart(bundle, cache, "waves", InversionSettings(4), {})
    before, after = (concept_loss(bundle, cache, part.whole, c.vectors) for c in (part.mean, learnt))
    assert after.mean() < before.mean()
    assert (learnt.images, learnt.steps, learnt.licence) == (4, 40, "CC0")
    learnt.check(bundle)


def test_the_model_stays_as_it_was(bundle: ModelBundle, pictures: list[Radiograph]) -> None:
    before = {name: value.clone() for name, value in bundle.denoiser.state_dict().items()}
    invert(bundle, pictures[:1], "waves", **FAST)
    assert all(torch.equal(before[name], value) for name, value in bundle.denoiser.state_dict().items())
    assert not any(parameter.grad is not None for parameter in bundle.denoiser.parameters())


def test_the_same_call_gives_the_same_concept(bundle: ModelBundle, pictures: list[Radiograph]) -> None:
    first, again = (invert(bundle, pictures[:2], "waves", **FAST) for _ in range(2))
    other = invert(bundle, pictures[:2], "waves", **(FAST | {"seed": 2}))
    assert torch.equal(first.vectors, again.vectors)
    assert first.about() == again.about()
    assert not torch.equal(first.vectors, other.vectors)


def test_a_stopped_run_goes_on_to_the_same_concept(
    bundle: ModelBundle, pictures: list[Radiograph], tmp_path: Path
) -> None:
    whole = invert(bundle, pictures[:2], "waves", **FAST)
    seen: list[tuple[int, int]] = []

    def stop(step: int, total: int, loss: float | None) -> bool:
        seen.append((step, total))
        return step < 3

    with pytest.raises(Cancelled, match="the same command goes on"):
        invert(bundle, pictures[:2], "waves", **FAST, callback=stop, folder=tmp_path)
    assert seen == [(1, 6), (2, 6), (3, 6)]
    assert not (tmp_path / "weights").exists()
    resumed = invert(bundle, pictures[:2], "waves", **FAST, folder=tmp_path)
    assert torch.equal(resumed.vectors, whole.vectors)


def test_a_folder_of_other_pictures_is_refused(
    bundle: ModelBundle, pictures: list[Radiograph], tmp_path: Path
) -> None:
    invert(bundle, pictures[:1], "waves", **FAST, folder=tmp_path)
    with pytest.raises(ConfigurationError, match="delete the folder"):
        invert(bundle, pictures[1:2], "waves", **FAST, folder=tmp_path)


def test_the_data_hash_names_the_pictures_not_their_order(
    bundle: ModelBundle, pictures: list[Radiograph]
) -> None:
    one, two, other = (
        invert(bundle, chosen, "waves", vectors=1, steps=1).data_sha256
        for chosen in (pictures[:2], pictures[1::-1], pictures[1:3])
    )
    assert one == two
    assert one != other


def test_pictures_smaller_than_the_models_are_learnt_from_too(bundle: ModelBundle) -> None:
    small = Radiograph.from_array(smooth_picture(0, 40, 32))
    assert invert(bundle, [small], "small", vectors=1, steps=1).images == 1


def test_half_of_the_pictures_have_no_patches_and_the_others_a_hole(
    bundle: ModelBundle, pictures: list[Radiograph], tmp_path: Path
) -> None:
    invert(bundle, pictures, "waves", vectors=1, steps=1, folder=tmp_path)
    cache = load_cache(tmp_path / "latents", (bundle.size,))
    run = replace(run_settings(tmp_path, 1, 0), batch=400)
    part = ConceptPart(bundle, cache, "waves", InversionSettings(run=run), {})
    present = part.batch(Step(0, 0.0, 0, 1, torch.device("cpu"), 0))["present"]
    kept = present[:, 1:].sum(1)
    assert present[:, 0].all()
    assert 0.4 < (kept == 0).float().mean() < 0.6
    assert (kept < 16).all()
    assert kept.max() == 15


def test_vectors_start_apart_but_near_the_mean(
    bundle: ModelBundle, pictures: list[Radiograph], tmp_path: Path
) -> None:
    invert(bundle, pictures[:1], "waves", vectors=1, steps=1, folder=tmp_path)
    cache = load_cache(tmp_path / "latents", (bundle.size,))
    start = ConceptPart(bundle, cache, "waves", InversionSettings(5), {}).module.vectors.detach()
    mean = ConceptPart(bundle, cache, "waves", InversionSettings(1), {}).module.vectors.detach()
    assert start.unique(dim=0).shape == start.shape
    assert torch.allclose(start, mean.expand(5, -1), atol=0.3)


@pytest.mark.parametrize(
    "settings", [{"vectors": 0}, {"vectors": 65}, {"steps": 0}, {"name": "a/b"}, {"pictures": []}]
)
def test_impossible_settings_are_refused_before_the_work(
    bundle: ModelBundle, pictures: list[Radiograph], settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "prepare", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(ConceptError):
        invert(bundle, **({"pictures": pictures, "name": "waves"} | settings))


def test_a_picture_that_is_none_is_named(bundle: ModelBundle, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"torn")
    with pytest.raises(RadiographError, match=r"torn\.png"):
        invert(bundle, [tmp_path / "torn.png"], "waves")


def test_paths_and_radiographs_mean_the_same(
    bundle: ModelBundle, pictures: list[Radiograph], tmp_path: Path
) -> None:
    from dino_diffusion.files.write_image import write_image

    path = write_image(pictures[0], pictures[0].stored, tmp_path / "a.tif")
    by_path = invert(bundle, [path], "waves", vectors=1, steps=2)
    by_picture = invert(bundle, [Radiograph.read(path)], "waves", vectors=1, steps=2)
    assert torch.equal(by_path.vectors, by_picture.vectors)
    assert isinstance(by_path, Concept)
