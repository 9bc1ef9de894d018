"""Inpainting in place: what may change, what must not, and what decides about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dino_diffusion.errors import Cancelled, ConceptError, ConfigurationError, RadiographError
from dino_diffusion.generation import blend, painting
from dino_diffusion.generation import inpaint as inpainting
from dino_diffusion.generation.composition import IN_PLACE_GUIDANCE
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.generation.inpaint import inpaint
from dino_diffusion.generation.masks import EditMask, feathered, surroundings
from dino_diffusion.generation.painting import Inpainting, InpaintSettings
from dino_diffusion.models import EncoderOutput, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SamplingStep
from tests.core.radiograph.phantom import chest, dicom
from tests.tiny import smooth_picture, tiny_bundle

FAST = InpaintSettings(steps=2)
SHAPE = (150, 120)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def radiograph() -> Radiograph:
    return Radiograph.from_array(smooth_picture(3, *SHAPE), name="film")


def ellipse(shape: tuple[int, int] = SHAPE, at: tuple[float, float] = (0.5, 0.3)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return ((rows / shape[0] - at[0]) / 0.2) ** 2 + ((columns / shape[1] - at[1]) / 0.15) ** 2 < 1


def concept(bundle: ModelBundle, vectors: int, seed: int, name: str = "opacity") -> Concept:
    width = bundle.denoiser.config.token_width
    drawn = 3 * torch.randn(vectors, width, generator=torch.Generator().manual_seed(seed))
    return Concept(name, drawn, model_id(bundle))


def different(first: inpainting.Inpainted, second: inpainting.Inpainted) -> float:
    return float(np.abs(first.pixels - second.pixels)[first.mask].mean())


@pytest.mark.parametrize("texture", blend.TEXTURES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_outside_the_mask_every_bit_stays(bundle: ModelBundle, dtype: str, texture: str) -> None:
    own = (smooth_picture(1, *SHAPE) * 200).astype(dtype)
    radiograph = Radiograph.from_array(own)
    mask = ellipse()
    made = inpaint(bundle, radiograph, mask, settings=InpaintSettings(steps=2, texture=texture))[0]
    assert made.stored.dtype == own.dtype and made.stored.shape == own.shape
    assert made.stored[~mask].tobytes() == own[~mask].tobytes()
    assert (made.stored[mask] != own[mask]).mean() > 0.5
    assert made.untouched == (~mask).sum()


def test_a_12_bit_monochrome1_film_keeps_every_bit(bundle: ModelBundle, tmp_path: Path) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 2000}
    dicom(tmp_path / "a.dcm", chest(150, 120), PhotometricInterpretation="MONOCHROME1", **window)
    radiograph = Radiograph.read(tmp_path / "a.dcm")
    made = inpaint(bundle, radiograph, ellipse(), settings=FAST)[0]
    outside = ~ellipse()
    assert made.stored.dtype == np.uint16
    assert np.array_equal(made.stored[outside], radiograph.stored[outside])
    assert not np.array_equal(made.stored, radiograph.stored)


def test_an_edit_that_reaches_beyond_the_mask_is_thrown_away(
    bundle: ModelBundle, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting, "feathered", lambda inside, *_: np.ones(inside.shape, np.float32))
    with pytest.raises(blend.ChangedOutside, match="outside its mask"):
        inpaint(bundle, radiograph, ellipse(), settings=FAST)


def test_what_is_to_be_kept_is_kept(bundle: ModelBundle, radiograph: Radiograph) -> None:
    mask, keep = ellipse(), np.zeros(SHAPE, np.uint8)
    keep[:, 30:40] = 2
    made = inpaint(bundle, radiograph, mask, keep, settings=FAST)[0]
    assert np.array_equal(made.stored[keep > 0], radiograph.stored[keep > 0])
    assert np.array_equal(made.mask, mask & (keep == 0))
    assert not np.array_equal(made.stored[made.mask], radiograph.stored[made.mask])


def test_the_change_sets_in_softly(bundle: ModelBundle, radiograph: Radiograph) -> None:
    hard, soft = (
        inpaint(bundle, radiograph, ellipse(), settings=InpaintSettings(steps=2, feather_mm=feather))[0]
        for feather in (0.0, 40.0)
    )
    rim = ellipse() & ~np.roll(ellipse(), 2, axis=1)
    change = [np.abs(made.pixels - radiograph.pixels)[rim].mean() for made in (hard, soft)]
    assert change[1] < 0.5 * change[0]


def test_candidates_differ_and_each_is_the_same_in_any_number(
    bundle: ModelBundle, radiograph: Radiograph
) -> None:
    three, one = (inpaint(bundle, radiograph, ellipse(), candidates=n, settings=FAST) for n in (3, 1))
    assert np.array_equal(three[0].stored, one[0].stored)
    assert three[0].recipe == one[0].recipe
    assert min(different(three[a], three[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 0.01
    other_seed = inpaint(bundle, radiograph, ellipse(), settings=InpaintSettings(steps=2, seed=1))
    assert different(one[0], other_seed[0]) > 0.01


def test_what_candidates_share_is_done_once(
    bundle: ModelBundle, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"encode": 0, "decode": 0}
    for name in calls:
        honest = getattr(bundle.autoencoder, name)

        def counted(x: torch.Tensor, name: str = name, honest: Any = honest) -> torch.Tensor:
            calls[name] += 1
            return honest(x)

        monkeypatch.setattr(bundle.autoencoder, name, counted)
    inpaint(bundle, radiograph, ellipse(), candidates=4, settings=FAST)
    assert calls == {"encode": 1, "decode": 5}


def test_less_strength_changes_less_in_fewer_steps(bundle: ModelBundle, radiograph: Radiograph) -> None:
    edit = EditMask.of(radiograph, ellipse())
    changes, steps = [], []
    for strength in (0.1, 0.5, 1.0):
        shared = Inpainting.of(bundle, radiograph, edit, (), InpaintSettings(strength=strength, steps=8))
        steps.append(shared.steps)
        changes.append(np.abs(shared.paint(0, 1)[0].pixels - radiograph.pixels)[edit.inside].mean())
    assert changes == sorted(changes) and changes[0] < 0.5 * changes[2]
    assert steps == sorted(steps) and steps[2] == 8


def test_the_level_can_be_kept(bundle: ModelBundle, radiograph: Radiograph) -> None:
    changes = []
    for keep_level in (False, True):
        settings = InpaintSettings(steps=2, feather_mm=0, keep_level=keep_level)
        made = inpaint(bundle, radiograph, ellipse(), settings=settings)[0]
        changes.append((made.pixels - radiograph.pixels)[ellipse()])
    assert abs(np.median(changes[1])) < 0.5 * abs(np.median(changes[0]))
    assert np.std(changes[1]) > 0.03


def test_a_soft_mask_is_strength_by_place(bundle: ModelBundle, radiograph: Radiograph) -> None:
    soft = np.zeros(SHAPE)
    soft[:, :60], soft[:, 60:] = 0.1, 1.0
    made = inpaint(bundle, radiograph, soft, settings=InpaintSettings(steps=8))[0]
    change = np.abs(made.pixels - radiograph.pixels)
    assert change[:, :50].mean() < 0.5 * change[:, 70:].mean()


def test_a_mask_of_everything_is_image_to_image(bundle: ModelBundle, radiograph: Radiograph) -> None:
    everything = np.ones(SHAPE, bool)
    made = inpaint(bundle, radiograph, everything, settings=InpaintSettings(steps=4, strength=0.5))[0]
    assert made.untouched == 0 and made.mask.all()
    assert np.corrcoef(made.pixels.ravel(), radiograph.pixels.ravel())[0, 1] > 0.3
    assert (made.stored != radiograph.stored).mean() > 0.9


def test_concepts_their_weights_and_their_number_decide(bundle: ModelBundle, radiograph: Radiograph) -> None:
    one, many = concept(bundle, 1, 0), concept(bundle, 5, 1, "many")
    made = [
        inpaint(bundle, radiograph, ellipse(), concepts=concepts, settings=FAST)[0]
        for concepts in ([], [(one, 1.0)], [(one, 0.3)], [(one, 1.0), (many, 0.5)], [(many, -1.0)])
    ]
    assert min(different(a, b) for k, a in enumerate(made) for b in made[:k]) > 1e-4
    assert made[3].recipe.parameters["concepts"] == [["opacity", 1.0], ["many", 0.5]]
    assert set(made[3].recipe.inputs) == {"image", "mask", "concept-opacity", "concept-many"}


def test_in_a_small_place_moved_tokens_decide_and_over_large_ones_vectors_too(
    bundle: ModelBundle, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = len(bundle.prior.mean)
    normal = replace(concept(bundle, 2, 3, "normal"), typical=torch.zeros(width))
    known = replace(concept(bundle, 3, 2), typical=torch.ones(width)).opposed_to([normal])
    other = replace(known, vectors=known.vectors + 1)

    def painted(shown: Concept) -> np.ndarray:
        return inpaint(bundle, radiograph, ellipse(), concepts=[(shown, 1.0)], settings=FAST)[0].pixels

    monkeypatch.setattr(painting, "SMALL_SHARE", 1.0)
    assert np.array_equal(painted(known), painted(other))
    assert not np.array_equal(painted(known), painted(replace(known, typical=2 * known.typical)))
    monkeypatch.setattr(painting, "SMALL_SHARE", 0.0)
    assert not np.array_equal(painted(known), painted(other))


def test_a_lesion_fills_much_of_its_window(bundle: ModelBundle) -> None:
    """Also in a picture no larger than the model's: the window is enlarged, by two at most."""
    mask = np.zeros((64, 64), bool)
    mask[30:34, 10:14] = True
    film = Radiograph.from_array(smooth_picture(2, 64, 64))
    shared = Inpainting.of(bundle, film, EditMask.of(film, mask))
    assert shared.window.box.side == 32 and shared.levels.shape[-1] == 8
    made = shared.candidates(1)[0]
    assert np.array_equal(made.stored[~mask], film.stored[~mask])
    assert not np.array_equal(made.stored[mask], film.stored[mask])


def test_tokens_under_the_mask_are_missing_and_partly_covered_ones_speak_for_the_rest(
    bundle: ModelBundle,
) -> None:
    radiograph = Radiograph.from_array(smooth_picture(3, 64, 64))
    mask = np.zeros((64, 64), bool)
    mask[:48, :16] = True
    shared = Inpainting.of(bundle, radiograph, EditMask.of(radiograph, mask), (), FAST)
    present = shared.present[0, 1:].reshape(4, 4)
    assert not bool(shared.present[0, 0]), "CLS speaks of the whole picture, the hidden part included"
    assert not present[:3, 0].any() and present[:, 1:].all() and present[3].all()

    patches = torch.arange(16.0).reshape(1, 1, 4, 4)
    covered = torch.zeros(1, 1, 64, 64)
    covered[..., :16, :16] = 1
    around, left = surroundings(EncoderOutput(torch.zeros(1, 1), patches), covered, 2)
    assert left.tolist() == [[True] * 4]
    assert around.patches[0, 0, 0, 0] == (1 + 4 + 5) / 3
    assert torch.equal(around.patches[0, 0, 2:], patches[0, 0, 2:])


@pytest.mark.parametrize(
    ("mask", "keep", "said"),
    [
        (np.ones((60, 64), bool), None, "the mask has 64 x 60 pixels, the image 120 x 150"),
        (np.zeros(SHAPE, bool), None, "the mask is empty"),
        (np.ones(SHAPE, bool), np.ones((3, 3)), "the keep mask has 3 x 3 pixels"),
        (ellipse(), np.ones(SHAPE), "covers all of the mask"),
        (np.full(SHAPE, 2.0), None, "from 0 to 1"),
        (np.full(SHAPE, np.nan), None, "from 0 to 1"),
    ],
)
def test_masks_that_make_no_sense_get_a_sentence(
    bundle: ModelBundle, radiograph: Radiograph, mask: np.ndarray, keep: np.ndarray | None, said: str
) -> None:
    with pytest.raises(RadiographError, match=said) as error:
        inpaint(bundle, radiograph, mask, keep, settings=FAST)
    assert str(error.value).startswith("film: ")


@pytest.mark.parametrize(
    "setting",
    [
        {"strength": 0},
        {"strength": 1.1},
        {"feather_mm": -1},
        {"texture": "silk"},
        {"sampler": "none"},
        {"guidance": -1},
        {"steps": 0},
        {"seed": -1},
    ],
)
def test_impossible_settings_get_a_sentence(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"use|ask"):
        InpaintSettings(**setting)


def test_no_candidate_and_a_foreign_concept_are_refused(bundle: ModelBundle, radiograph: Radiograph) -> None:
    with pytest.raises(ConfigurationError, match="1 or more"):
        inpaint(bundle, radiograph, ellipse(), candidates=0)
    foreign = concept(tiny_bundle(seed=5), 1, 0)
    with pytest.raises(ConceptError, match="learnt for model"):
        inpaint(bundle, radiograph, ellipse(), concepts=[(foreign, 1.0)], settings=FAST)


def test_every_step_is_reported_and_can_be_the_last(bundle: ModelBundle, radiograph: Radiograph) -> None:
    seen: list[SamplingStep] = []
    inpaint(bundle, radiograph, ellipse(), candidates=2, settings=FAST, callback=seen.append)
    assert [step.index for step in seen] == [1, 2] * 2
    shared = Inpainting.of(bundle, radiograph, EditMask.of(radiograph, ellipse()), (), FAST)
    preview = shared.preview(seen[0].estimate)
    assert np.array_equal(preview[~ellipse()], radiograph.pixels[~ellipse()])
    assert not np.array_equal(preview, radiograph.pixels)
    with pytest.raises(Cancelled):
        inpaint(bundle, radiograph, ellipse(), settings=FAST, callback=lambda step: False)


@pytest.mark.parametrize("token_grid", [0, 2])
def test_other_denoisers(radiograph: Radiograph, token_grid: int) -> None:
    bundle = tiny_bundle(token_grid=token_grid)
    made = inpaint(bundle, radiograph, ellipse(), settings=FAST)[0]
    assert not np.array_equal(made.stored, radiograph.stored)


@pytest.mark.parametrize("texture", blend.TEXTURES)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_recipe_replays_to_the_bit(
    bundle: ModelBundle, radiograph: Radiograph, texture: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = painting.in_batches
    monkeypatch.setattr(painting, "in_batches", lambda count, work, most: whole(count, work, most=batch))
    known = concept(bundle, 3, 2).opposed_to([concept(bundle, 2, 3, "normal")])
    settings = InpaintSettings(0.8, 5.0, texture, True, 7, 2, None if batch == 1 else 1.5, "heun")
    keep = np.zeros(SHAPE, bool)
    keep[60:70] = True
    for made in inpaint(bundle, radiograph, ellipse(), keep, [(known, 0.7)], 3, settings):
        recipe = inpainting.Recipe.from_json(made.recipe.to_json())
        assert recipe.parameters["guidance"] == (IN_PLACE_GUIDANCE if batch == 1 else 1.5)
        inputs = {
            "image": radiograph,
            "mask": EditMask.of(radiograph, made.mask),
            "concept-opacity": known,
        }
        again = inpainting.again(recipe, tiny_bundle(), inputs)
        assert np.array_equal(again.stored, made.stored)
        assert again.recipe == made.recipe
        with pytest.raises(ConfigurationError, match="differs"):
            inpainting.again(recipe, bundle, inputs | {"mask": EditMask.of(radiograph, keep)})
        with pytest.raises(ConfigurationError, match="is missing"):
            inpainting.again(recipe, bundle, {"image": radiograph})


def test_a_feather_of_next_to_nothing_is_none() -> None:
    assert np.array_equal(feathered(ellipse(), 1e-300, (0.2, 0.2)), ellipse().astype(np.float32))
