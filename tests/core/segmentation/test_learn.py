"""Learning from an example on a tiny random bundle: what is taught, what is refused, what an answer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from dino_diffusion.errors import Cancelled, EmbeddingError
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import heads, observe
from dino_diffusion.segmentation.chest_frame import chest_coordinates
from dino_diffusion.segmentation.descriptors import FINE_WIDTH, KNOWN, PLACE_WIDTH, Descriptors, told_places
from dino_diffusion.segmentation.embedding import SegmentEmbedding
from dino_diffusion.segmentation.examples import has_holes, keep_parts, parts_of
from dino_diffusion.segmentation.learn import learn, steps_of
from dino_diffusion.segmentation.learnt import segment_with
from dino_diffusion.segmentation.shown import pictures_of
from tests.tiny import smooth_picture, tiny_bundle

SHAPE = (80, 64)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="module")
def film() -> Radiograph:
    return Radiograph.from_array(smooth_picture(1, *SHAPE))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "STEPS", 3)


def square(value: int, rows: slice = slice(20, 50), columns: slice = slice(10, 40)) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[rows, columns] = value
    return mask


@pytest.fixture(scope="module")
def heart(bundle: ModelBundle, film: Radiograph) -> SegmentEmbedding:
    return learn(bundle, [(film, square(20))], "heart")


def dice(labels: np.ndarray, mask: np.ndarray, value: int) -> float:
    ours, theirs = labels == value, mask == value
    return float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))


def test_the_example_itself_is_labelled_with_its_own_value(
    bundle: ModelBundle, film: Radiograph, heart: SegmentEmbedding
) -> None:
    found = segment_with(bundle, observe(bundle, film), [heart])
    labels = found.labelmap.labels
    assert labels.shape == SHAPE and set(np.unique(labels)) == {0, 20}
    assert dice(labels, square(20), 20) > 0.8
    assert found.labelmap.names == {20: "heart"} and found.labelmap.segment(20).kind.meaning == "Heart"
    assert 0 <= found.uncertainties["heart"] == found.uncertainty <= 1
    assert found.uncertainty_map.shape == SHAPE


def test_a_picture_without_the_structure_teaches_that(
    bundle: ModelBundle, film: Radiograph, heart: SegmentEmbedding
) -> None:
    other = Radiograph.from_array(smooth_picture(2, *SHAPE))
    seen = observe(bundle, other)
    assert segment_with(bundle, seen, [heart]).labelmap.labels.any()
    taught = learn(bundle, [(film, square(20)), (other, square(0))], "heart")
    assert not segment_with(bundle, seen, [taught]).labelmap.labels.any()
    assert dice(segment_with(bundle, observe(bundle, film), [taught]).labelmap.labels, square(20), 20) > 0.8


def test_pictures_without_the_structure_do_not_outweigh_those_with_it() -> None:
    assert pictures_of([True]) == [24] and pictures_of([True, True]) == [12, 12]
    assert pictures_of([True, False]) == [24, 8]
    assert pictures_of([True, False, True, False, False]) == [12, 4, 12, 4, 4]


def test_labels_are_learnt_together_and_never_overlap(bundle: ModelBundle, film: Radiograph) -> None:
    mask = square(20) + square(21, slice(20, 50), slice(40, 60))
    both = learn(bundle, [(film, mask)], "pair", names={21: "left clavicle"})
    assert [learnt.segment.name for learnt in both.segments] == ["pair 20", "left clavicle"]
    labels = segment_with(bundle, observe(bundle, film), [both]).labelmap.labels
    assert min(dice(labels, mask, 20), dice(labels, mask, 21)) > 0.7


def test_the_order_of_embeddings_does_not_matter(
    bundle: ModelBundle, film: Radiograph, heart: SegmentEmbedding
) -> None:
    other = learn(bundle, [(film, square(30, slice(40, 70)))], "liver")
    seen = observe(bundle, film)
    one, two = (segment_with(bundle, seen, pair) for pair in ([heart, other], [other, heart]))
    assert (one.labelmap.labels == two.labelmap.labels).all()
    assert set(one.uncertainties) == {"heart", "liver"}


@pytest.fixture
def described() -> Descriptors:
    """Two pictures whose left and right thirds are known to be lungs."""
    known = torch.zeros(2, KNOWN, 12, 12)
    known[:, 1, :, :4] = known[:, 2, :, 8:] = 0.9
    known[:, 0] = 1 - known.sum(1)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 6 + PLACE_WIDTH, 6, 6, generator=generator)
    fine = torch.randn(2, FINE_WIDTH, 12, 12, generator=generator)
    return Descriptors(coarse, fine, known, torch.full((2,), 20.0))


def layers(*labels: torch.Tensor) -> torch.Tensor:
    """Targets `(2, labels + 1, 12, 12)` of bool maps `(12, 12)`."""
    maps = torch.stack([~torch.stack(labels).any(0), *labels]).float()
    return maps.expand(2, -1, -1, -1)


def taught(seen: Descriptors, targets: torch.Tensor) -> heads.SegmentHead:
    """A head for two examples, without altered copies."""
    return heads.train_head(seen, targets, examples=2, seed=0)


@pytest.mark.usefixtures("few_steps")
def test_what_is_known_without_a_label_is_asked_where_it_draws_the_examples(described: Descriptors) -> None:
    columns = torch.arange(12).expand(12, 12)
    swapped = taught(described, layers(columns >= 8, columns < 4))
    assert swapped.trust.tolist() == [1.0] * 2, "lungs with other labels are lungs"
    assert torch.equal(swapped.name(described.known), described.known[:, [0, 2, 1]])
    both = taught(described, layers((columns < 4) | (columns >= 8)))
    assert torch.allclose(both.name(described.known)[:, 1], 1 - described.known[:, 0])
    upper = (columns < 4) & (torch.arange(12)[:, None] < 4)
    zone = taught(described, layers(upper))
    assert zone.trust.tolist() == [1.0], "an upper third of one lung is known, too"
    torch.testing.assert_close(zone.name(described.known)[0, 1], 0.9 * upper)
    between = taught(described, layers((columns >= 5) & (columns < 7)))
    assert between.trust.tolist() == [0.0]
    alone = between.read(described).softmax(1)
    torch.testing.assert_close(between(described, 1), alone)
    for head in (swapped, both, between):
        assert torch.allclose(head(described, 1).sum(1), torch.ones(2, 12, 12))
    known = swapped.name(described.known)[:, 1:]
    one, many = ((swapped(described, count)[:, 1:] - known).abs().mean() for count in (1, 20))
    assert one < many, "the more examples, the less counts what is known without them"


def test_displaced_content_keeps_its_look_and_says_another_place(described: Descriptors) -> None:
    places = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(1)) - 0.5
    seen = replace(described, coarse=torch.cat([described.coarse[:, :6], told_places(places)], dim=1))
    by = torch.tensor([[0.25, -0.5], [0.0, 0.0]])
    moved = seen.displaced(by)
    torch.testing.assert_close(moved.coarse[:, 6:], told_places(places + by[:, :, None, None]))
    assert torch.equal(moved.coarse[:, :6], seen.coarse[:, :6]) and torch.equal(moved.fine, seen.fine)
    torch.testing.assert_close(moved.coarse[1], seen.coarse[1])


def test_no_lesson_may_rely_on_where_exactly_it_is(
    described: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    displaced, moves = Descriptors.displaced, []

    def watched(seen: Descriptors, by: torch.Tensor) -> Descriptors:
        moves.append(by)
        return displaced(seen, by)

    monkeypatch.setattr(Descriptors, "displaced", watched)
    monkeypatch.setattr(heads, "STEPS", 30)
    taught(described, layers(torch.eye(12, dtype=torch.bool)))
    drawn = torch.stack(moves)
    assert drawn.shape == (30, heads.BATCH, 2), "each picture of each step is elsewhere"
    assert drawn.std() == pytest.approx(heads.ASTRAY, rel=0.2) and abs(drawn.mean()) < 0.1


@pytest.mark.usefixtures("few_steps")
def test_a_bad_drawing_beside_a_good_one_does_not_cost_trust(described: Descriptors) -> None:
    columns, rows = torch.arange(12).expand(12, 12), torch.arange(12)[:, None].expand(12, 12)
    pair = taught(described, layers(columns < 4, (columns >= 8) & (rows < 8)))
    assert pair.trust[0] == pair.trust[1] == 1
    third = taught(described, layers(columns < 4, (columns >= 5) & (columns < 7)))
    assert third.trust.tolist() == [1, 0], "what no known region belongs to is left to the first expert"


@pytest.mark.usefixtures("few_steps")
def test_what_holds_the_lungs_does_not_become_them(described: Descriptors) -> None:
    known = torch.zeros(2, KNOWN, 12, 12)
    known[:, 1, 2:10, 1:4] = known[:, 2, 2:10, 7:10] = 1
    known[:, 0] = 1 - known.sum(1)
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[2:10, 1:10] = True
    thorax = taught(replace(described, known=known), layers(mask))
    assert not thorax.name(known)[:, 1, 2:10, 4:7].any(), "the second expert knows no mediastinum"
    assert thorax.trust * heads.WORTH / (heads.WORTH + 1) < 0.5, "so it may not outvote the first"


@pytest.mark.usefixtures("few_steps")
def test_being_taught_again_adds_to_what_was_learnt(
    bundle: ModelBundle, film: Radiograph, heart: SegmentEmbedding
) -> None:
    second = Radiograph.from_array(smooth_picture(2, *SHAPE))
    before = {name: value.clone() for name, value in heart.lessons[0].weights.items()}
    parted = square(20) + square(20, slice(60, 70))
    again = learn(bundle, [(second, parted)], "heart", start=heart)
    assert again.examples == 2 and again.values == heart.values
    assert all(torch.equal(again.lessons[0].weights[name], value) for name, value in before.items())
    assert [each.parts for each in again.segments] == [2]
    assert again.lessons[1].images == (second.source.sha256,)


@pytest.mark.usefixtures("few_steps")
def test_the_same_seed_learns_the_same_and_leaves_torch_alone(bundle: ModelBundle, film: Radiograph) -> None:
    state = torch.get_rng_state()
    one, two = (learn(bundle, [(film, square(20))], "x", seed=3).lessons[0].weights for _ in range(2))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.usefixtures("few_steps")
def test_only_the_chosen_label_is_taught_and_lungs_keep_their_names(
    bundle: ModelBundle, film: Radiograph
) -> None:
    mask = square(1, columns=slice(5, 25)) + square(2, columns=slice(35, 55))
    lungs = learn(bundle, [(film, mask)], "lungs")
    assert [learnt.segment.name for learnt in lungs.segments] == ["right lung", "left lung"]
    heart = learn(bundle, [(film, mask)], "heart", labels=[2])
    assert heart.values == (2,) and heart.segments[0].segment.kind.meaning == "Heart"


@pytest.mark.parametrize(
    ("mask", "labels", "words"),
    [
        (np.zeros((10, 10), np.uint8), None, "own grid"),
        (np.zeros(SHAPE, np.uint8), None, "empty"),
        (np.ones(SHAPE, np.uint8), None, "whole image"),
        ((smooth_picture(3, *SHAPE) * 255).astype(np.uint8), None, "looks like an image"),
        (square(1) * 0.5, None, "no labels"),
        (square(1).astype(np.int32) * 300, None, "no labels"),
        (square(20), [7], "No mask holds the label 7"),
        (square(20, slice(20, 21), slice(20, 21)), None, "too little"),
    ],
)
def test_what_is_no_mask_gets_a_sentence(
    bundle: ModelBundle, film: Radiograph, mask: np.ndarray, labels: Sequence[int] | None, words: str
) -> None:
    with pytest.raises(EmbeddingError, match=words):
        learn(bundle, [(film, mask)], "x", labels)


def test_refining_asks_for_the_same_labels_and_the_same_bundle(
    bundle: ModelBundle, film: Radiograph, heart: SegmentEmbedding
) -> None:
    with pytest.raises(EmbeddingError, match="knows the labels 20, not 21"):
        learn(bundle, [(film, square(21))], "heart", start=heart)
    with pytest.raises(EmbeddingError, match="teach only beside one that shows it"):
        learn(bundle, [(film, square(0))], "heart", start=heart)
    with pytest.raises(EmbeddingError, match="learn it again"):
        learn(tiny_bundle(seed=1), [(film, square(20))], "heart", start=heart)
    with pytest.raises(EmbeddingError, match="learn it again"):
        segment_with(tiny_bundle(seed=1), observe(bundle, film), [heart])


def test_it_can_be_cancelled_and_tells_how_far_it_is(bundle: ModelBundle, film: Radiograph) -> None:
    heard, example = [], [(film, square(20))]

    def stop(done: int, total: int) -> None:
        heard.append((done, total))
        if done == 8:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        learn(bundle, example, "x", callback=stop)
    assert heard == [(done, steps_of(example)) for done in range(1, 9)]


def test_what_is_not_there_is_said(bundle: ModelBundle, film: Radiograph, heart: SegmentEmbedding) -> None:
    weights = dict(heart.lessons[0].weights)
    weights["vote.bias"] = torch.tensor([50.0, -50.0]).half()
    blind = replace(heart, lessons=(replace(heart.lessons[0], weights=weights),))
    found = segment_with(bundle, observe(bundle, film), [blind])
    assert not found.labelmap.labels.any()
    assert any("'heart' was not found" in warning for warning in found.warnings)


def test_chest_coordinates_turn_and_move_with_the_lungs() -> None:
    lungs = torch.zeros(1, 2, 32, 32)
    lungs[0, 0, 8:20, 5:12], lungs[0, 1, 8:20, 20:27] = 1, 1
    moved = torch.roll(lungs, (3, 2), (2, 3))
    here, there = chest_coordinates(lungs), chest_coordinates(moved)
    assert torch.allclose(here[..., 4:20, 4:20], there[..., 7:23, 6:22], atol=0.1)
    assert here[0, 0, 14, 8].item() == pytest.approx(-1, abs=0.1)
    assert here[0, 0, 14, 23].item() == pytest.approx(1, abs=0.1)
    assert chest_coordinates(torch.zeros(1, 2, 32, 32)).isfinite().all()


def test_as_many_parts_stay_as_the_example_had() -> None:
    region = np.zeros((40, 40), bool)
    region[5:15, 5:15], region[20:30, 20:30], region[35, 35] = True, True, True
    assert parts_of(region) == 2
    assert keep_parts(region, 2, False).sum() == 200 and keep_parts(region, 1, False).sum() == 100
    ring = np.zeros((40, 40), bool)
    ring[5:25, 5:25] = True
    ring[10:20, 10:20] = False
    assert has_holes(ring)
    assert keep_parts(ring, 1, True).sum() == 400 and keep_parts(ring, 1, False).sum() == 300


def test_a_thin_structure_keeps_what_lies_beyond_a_break() -> None:
    wire = np.zeros((40, 40), bool)
    wire[20, 2:38] = True
    wire[20, 20] = False
    assert (keep_parts(wire, 1, False) == wire).all()
