"""The shipped model on what comes in practice: altered radiographs, children, pictures of other things."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from skimage.color import rgb2gray

from dino_diffusion.evaluation.odd_input import ODD_INPUT, mirror, rotate
from dino_diffusion.evaluation.overlap import mean_dice
from dino_diffusion.evaluation.robustness import read_pair
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import LungSegmentation, segment_lungs

DATA = Path(__file__).parents[4] / "shared" / "data" / "cxr"
COST = 0.04
"""Of a handful of files; over the files of docs/segmentation.md it is held to 0.03."""

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return ModelBundle.from_pretrained()


def rows(**wanted: str) -> list[dict[str, str]]:
    if not DATA.is_dir():
        pytest.skip("the development data (../shared/data/cxr) is not here")
    with open(DATA / "metadata.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if wanted.items() <= row.items()]


@pytest.fixture(scope="module")
def dev() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels and masks of eight radiographs, evenly from the dev split."""
    masked = [row for row in rows(split="dev") if row["mask"]]
    return [read_pair(DATA / row["image"], DATA / row["mask"]) for row in masked[:: len(masked) // 8][:8]]


def found(bundle: ModelBundle, pixels: np.ndarray) -> LungSegmentation:
    return segment_lungs(bundle, Radiograph.from_array(pixels.astype(np.float32)))


@pytest.fixture(scope="module")
def plain(bundle: ModelBundle, dev: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    return [mean_dice(found(bundle, pixels).labelmap.labels, labels) for pixels, labels in dev]


UNTRIED = {"mirrored", "4000 pixels", "2000 pixels"}
"""The first has its own test, large pictures are slow."""


@pytest.mark.parametrize("name", sorted(ODD_INPUT.keys() - UNTRIED))
def test_odd_input_costs_little(
    name: str, bundle: ModelBundle, dev: list[tuple[np.ndarray, np.ndarray]], plain: list[float]
) -> None:
    altered = [ODD_INPUT[name](pixels, labels) for pixels, labels in dev]
    scores = [mean_dice(found(bundle, pixels).labelmap.labels, labels) for pixels, labels in altered]
    assert np.mean(plain) - np.mean(scores) <= COST


def test_a_mirrored_picture_is_noticed_and_never_swapped(
    bundle: ModelBundle, dev: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    turned = [found(bundle, mirror(pixels, labels)[0]) for pixels, labels in dev]
    assert sum(answer.view.mirrored for answer in turned) >= len(dev) - 1
    assert sum(found(bundle, pixels).view.mirrored for pixels, _ in dev) <= 1
    for answer in turned:
        columns = [np.nonzero(answer.labelmap.labels == value)[1].mean() for value in (1, 2)]
        assert columns[0] < columns[1]
        assert any("mirrored" in warning for warning in answer.warnings) == answer.view.mirrored


def test_a_negative_is_read_as_its_negative_and_nothing_else_is(
    bundle: ModelBundle, dev: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    for pixels, _ in dev:
        plain, negative = found(bundle, pixels), found(bundle, 1 - pixels)
        assert negative.view.negative and not plain.view.negative
        assert any("inverted" in warning for warning in negative.warnings) or negative.view.foreign
        assert np.mean(plain.labelmap.labels == negative.labelmap.labels) > 0.98


def test_what_is_no_upright_chest_is_flagged(
    bundle: ModelBundle, dev: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    others = [skimage.data.camera(), skimage.data.page(), rgb2gray(skimage.data.astronaut())]
    noise = np.random.default_rng(0).random((300, 300))
    pictures = [*(np.asarray(p, np.float32) / max(1, np.max(p)) for p in others), noise]
    pictures += [np.rot90(pixels, 1 + number % 3) for number, (pixels, _) in enumerate(dev)]
    flagged = [found(bundle, picture).view.foreign for picture in pictures]
    assert sum(flagged) >= len(pictures) - 1
    proper = [pixels for pixels, _ in dev]
    proper += [rotate(pixels, labels, degrees=10)[0] for pixels, labels in dev]
    assert sum(found(bundle, picture).view.foreign for picture in proper) <= 1


def test_children_get_two_lungs_and_more_doubt(
    bundle: ModelBundle, dev: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    chosen = rows(source="kermany")[::64]
    children = [found(bundle, Radiograph.read(DATA / row["image"]).pixels) for row in chosen]
    adults = [found(bundle, pixels) for pixels, _ in dev]
    for answer in children:
        assert all((answer.labelmap.labels == value).mean() > 0.01 for value in (1, 2)) or answer.warnings
    doubt = [np.median([answer.uncertainty for answer in group]) for group in (children, adults)]
    assert doubt[0] > doubt[1]


def test_a_white_lung_raises_the_doubt(bundle: ModelBundle, dev: list[tuple[np.ndarray, np.ndarray]]) -> None:
    before, after = [], []
    for pixels, labels in dev[:4]:
        white = pixels.copy()
        white[labels == 2] = np.percentile(pixels, 95)
        answer = found(bundle, white)
        before.append(found(bundle, pixels).uncertainty)
        after.append(answer.uncertainty)
        right = (answer.labelmap.labels == 1) & (labels == 1)
        assert right.sum() > 0.7 * (labels == 1).sum()
    assert np.mean(after) > np.mean(before)
