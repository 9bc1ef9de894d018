"""Thin structures are looked at closely: where in the chest, what is seen there, and what becomes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dino_diffusion.errors import EmbeddingError
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import heads, observe
from dino_diffusion.segmentation.chest_frame import ChestFrame, cell_centres, chest_coordinates
from dino_diffusion.segmentation.close_up import LEAST, MOST, CloseUp
from dino_diffusion.segmentation.embedding import SegmentEmbedding
from dino_diffusion.segmentation.learn import learn
from dino_diffusion.segmentation.learnt import segment_seen, segment_with
from dino_diffusion.segmentation.shown import PICTURES, Original, batches_of, show
from dino_diffusion.segmentation.sights import CloseView, Sights, chest_of, close_side
from tests.tiny import smooth_picture, tiny_bundle

SIDE = 256
SHAPE = (160, 120)


def lungs(right: int = 60, down: int = 60, wide: int = 50, high: int = 130) -> torch.Tensor:
    """Two rectangles in a view, 130 pixels from one middle to the other."""
    maps = torch.zeros(1, 2, SIDE, SIDE)
    maps[0, 0, down : down + high, right - wide // 2 : right + wide // 2] = 1
    maps[0, 1, down : down + high, right + 130 - wide // 2 : right + 130 + wide // 2] = 1
    return maps


CHEST = ChestFrame.of(lungs())


def drawn(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[rows, columns] = True
    return mask


TUBE = drawn(slice(30, 75), slice(120, 129))


def test_points_and_places_are_each_others_inverse() -> None:
    turned = ChestFrame(torch.tensor([[0.1, -0.2]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.4, 0.7]]))
    points = cell_centres(4)
    places = turned.places(points)
    back = turned.points(places[:, :, 1, 2])
    torch.testing.assert_close(back[0], points[1, 2])
    torch.testing.assert_close(chest_coordinates(lungs()), CHEST.places(cell_centres(SIDE)))


def test_a_thin_structure_gets_a_square_that_holds_it() -> None:
    close_up = CloseUp.around([TUBE], [CHEST])
    assert close_up is not None
    box = close_up.box(CHEST, SIDE)
    assert LEAST * SIDE <= box.side <= MOST * SIDE and box.side > 1.4 * 45
    assert box.left < 120 - 10 and box.left + box.side > 129 + 10
    assert box.top < 30 and box.top + box.side > 75


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(100, 180), slice(100, 170)),  # thick, as a heart
        (slice(40, 46), slice(20, 236)),  # wide, as both clavicles
    ],
)
def test_what_is_thick_or_wide_is_looked_for_in_the_whole_picture(rows: slice, columns: slice) -> None:
    assert CloseUp.around([drawn(rows, columns)], [CHEST]) is None
    assert CloseUp.around([TUBE, drawn(rows, columns)], [CHEST, CHEST]) is None


def test_several_examples_share_a_square_and_an_empty_one_says_nothing() -> None:
    lower = np.roll(TUBE, 20, axis=0)
    both = CloseUp.around([TUBE, np.zeros_like(TUBE), lower], [CHEST] * 3)
    assert both is not None
    box = both.box(CHEST, SIDE)
    inside = slice(box.top, box.top + box.side), slice(box.left, box.left + box.side)
    assert TUBE[inside].sum() == TUBE.sum() and lower[inside].sum() == lower.sum()


def test_the_square_moves_and_grows_with_the_chest_and_stays_in_the_picture() -> None:
    close_up = CloseUp.around([TUBE], [CHEST])
    assert close_up is not None
    here = close_up.box(CHEST, SIDE)
    moved = close_up.box(ChestFrame.of(lungs(right=70, down=72)), SIDE)
    assert abs(moved.left - here.left - 10) <= 1 and abs(moved.top - here.top - 12) <= 1
    assert close_up.box(ChestFrame.of(lungs(high=160)), SIDE).side > here.side
    above = close_up.box(ChestFrame.of(lungs(down=0)), SIDE)
    assert above.top == 0 and above.side == here.side
    huge = CloseUp(0.0, 0.0, 50.0).box(CHEST, SIDE)
    assert (huge.left, huge.top, huge.side) == (0, 0, SIDE)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def film() -> Radiograph:
    """With something thin and bright in the middle of its upper part."""
    picture = 0.7 * smooth_picture(1, *SHAPE)
    picture[20:60, 59:64] += 0.3
    return Radiograph.from_array(picture)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "STEPS", 3)


MASK = np.zeros(SHAPE, np.uint8)
MASK[20:60, 59:64] = 30


@pytest.fixture(scope="module")
def tube(bundle: ModelBundle, film: Radiograph) -> SegmentEmbedding:
    return learn(bundle, [(film, MASK)], "tube")


def test_it_is_found_again_there_and_nowhere_else(
    bundle: ModelBundle, film: Radiograph, tube: SegmentEmbedding
) -> None:
    assert tube.close_up is not None
    observation = observe(bundle, film)
    found = segment_with(bundle, observation, [tube])
    labels = found.labelmap.labels
    assert set(np.unique(labels)) == {0, 30}
    overlap = 2 * ((labels == 30) & (MASK == 30)).sum() / ((labels == 30).sum() + (MASK == 30).sum())
    assert overlap > 0.3, "with cells wider than the tube"
    view = Sights(bundle, observation).of(tube.close_up).view
    assert isinstance(view, CloseView)
    beyond = np.ones(SHAPE, bool)
    beyond[view.window.region] = False
    assert beyond.any() and not found.uncertainty_map[beyond].any()
    assert 0 <= found.uncertainty <= 1 and found.uncertainty_map.max() <= 1


def test_what_is_seen_closely_is_that_part_of_the_film(
    bundle: ModelBundle, film: Radiograph, tube: SegmentEmbedding
) -> None:
    view = Sights(bundle, observe(bundle, film)).of(tube.close_up).view
    assert isinstance(view, CloseView)
    shown = view.to_source(view.pixels)[0, 0].numpy()[view.window.region]
    wanted = view.window.scale.apply(film.pixels[view.window.region])
    assert np.abs(shown - wanted).mean() < 0.05


def test_copies_show_the_structure_where_their_targets_say(bundle: ModelBundle, film: Radiograph) -> None:
    view = observe(bundle, film).view
    square = view.square.resized(4 * bundle.size)
    picture, mask = square.to_model(view.scale.apply(film.pixels)), square.to_model(MASK == 30)
    original = Original(picture, torch.cat([1 - mask, mask], dim=1), square.side)
    tube = CloseUp(0.24, -0.5, 1.2)
    told: list[int] = []
    lessons = show(bundle, [original], tube, seed=1, tell=told.append)
    assert told == list(range(1, batches_of([True]) + 1))
    size = close_side(bundle)
    assert lessons.pictures.shape == (PICTURES, 1, size, size)
    assert lessons.targets.shape == (PICTURES, 2, size, size)
    assert lessons.descriptors.area.shape == (PICTURES,)
    shares = lessons.targets[:, 1]
    whole = shares.sum((1, 2)) > 20
    assert whole.sum() > PICTURES / 2, "the square is displaced, but not so far that it misses"
    grey = lessons.pictures[whole, 0]
    inside = (grey * shares[whole]).sum((1, 2)) / shares[whole].sum((1, 2))
    assert (inside > grey.mean((1, 2)) + 0.1).float().mean() > 0.9
    assert len({tuple(each.flatten().tolist()) for each in shares}) == PICTURES, "each copy is another one"


def test_each_place_is_looked_at_once(
    bundle: ModelBundle, film: Radiograph, tube: SegmentEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    sights = Sights(bundle, observe(bundle, film))
    first = segment_seen(sights, [tube])
    monkeypatch.setattr(Sights, "_closer", lambda *_: pytest.fail("looked again"))
    assert np.array_equal(segment_seen(sights, [tube]).labelmap.labels, first.labelmap.labels)


@pytest.mark.usefixtures("few_steps")
def test_refining_looks_where_it_looked_before(
    bundle: ModelBundle, film: Radiograph, tube: SegmentEmbedding
) -> None:
    again = learn(bundle, [(film, np.roll(MASK, 2, axis=1))], "tube", start=tube)
    assert again.close_up == tube.close_up and again.examples == 2
    elsewhere = np.zeros(SHAPE, np.uint8)
    elsewhere[140:155, 5:11] = 30
    with pytest.raises(EmbeddingError, match="lies elsewhere in the chest"):
        learn(bundle, [(film, elsewhere)], "tube", start=tube)


def test_a_thick_structure_is_looked_for_in_the_whole_picture(bundle: ModelBundle, film: Radiograph) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[60:120, 30:90] = 20
    assert learn(bundle, [(film, mask)], "heart").close_up is None


def test_the_chest_of_an_observation_is_that_of_its_lungs(bundle: ModelBundle, film: Radiograph) -> None:
    chest = chest_of(bundle, observe(bundle, film).features)
    assert chest.centre.shape == (1, 2) and torch.isfinite(chest.units).all() and (chest.units > 0).all()


@pytest.mark.usefixtures("few_steps")
def test_a_wire_thinner_than_a_model_pixel_is_taught_too(bundle: ModelBundle) -> None:
    wide = Radiograph.from_array(smooth_picture(2, 1000, 800))
    mask = np.zeros(wide.shape, np.uint8)
    mask[100:350, 396:405] = 30  # on the border of two model pixels
    wire = learn(bundle, [(wide, mask)], "wire")
    assert wire.close_up is not None and wire.values == (30,)
