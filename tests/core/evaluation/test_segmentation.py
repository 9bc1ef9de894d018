"""Dice and surface distance: known shifts, hand-computed cases, empty lungs, folders with bad files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dino_diffusion.errors import Cancelled, RadiographError
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.labelfiles import read_labels, stem
from dino_diffusion.evaluation.segmentation import evaluate_segmentation, score_pair


def two_lungs(shape: tuple[int, int] = (60, 80), shift: int = 0) -> np.ndarray:
    """Two rectangles of 30 x 20 pixels, the right lung on the left side, moved down by `shift`."""
    labels = np.zeros(shape, np.uint8)
    labels[10 + shift : 40 + shift, 10:30] = 1
    labels[10 + shift : 40 + shift, 45:65] = 2
    return labels


def test_identical_masks_agree_perfectly() -> None:
    score = score_pair(two_lungs(), two_lungs(), (0.5, 0.5))
    assert (score.right, score.left, score.mean, score.hd95, score.hd95_mm) == (1, 1, 1, 0, 0)


def test_known_shift_gives_the_dice_and_distance_computed_by_hand() -> None:
    """Moved by 3 of 30 rows, 27 are shared: Dice 0.9; the outlines are 3 pixels apart, the diagonal 100."""
    score = score_pair(two_lungs(shift=3), two_lungs(), (0.5, 0.5))
    assert score.right == pytest.approx(0.9)
    assert score.left == pytest.approx(0.9)
    assert score.hd95 == pytest.approx(3.0)
    assert score.hd95_mm == pytest.approx(1.5)


def test_spacing_of_rows_and_columns_is_told_apart() -> None:
    score = score_pair(two_lungs(shift=3), two_lungs(), (2.0, 0.5))
    sideways = score_pair(np.roll(two_lungs(), 3, axis=1), two_lungs(), (2.0, 0.5))
    assert score.hd95_mm is not None and sideways.hd95_mm is not None
    assert sideways.hd95_mm == pytest.approx(1.5)
    assert score.hd95_mm > sideways.hd95_mm


def test_distance_grows_with_the_shift() -> None:
    distances = [score_pair(two_lungs(shift=shift), two_lungs(), None).hd95 for shift in range(6)]
    assert distances == sorted(distances) and distances[-1] > distances[0]


def test_swapped_lungs_score_nothing() -> None:
    swapped = np.array([0, 2, 1], np.uint8)[two_lungs()]
    assert score_pair(swapped, two_lungs(), None).mean == 0


def test_zones_count_as_their_lung() -> None:
    zones = two_lungs()
    zones[10:20][zones[10:20] == 1] = 3
    zones[20:30][zones[20:30] == 1] = 4
    zones[30:40][zones[30:40] == 2] = 8
    zones[0, 0] = 16  # a learnt segment is no lung
    assert score_pair(zones, two_lungs(), None).mean == 1


def test_empty_mask_conventions() -> None:
    nothing = np.zeros((60, 80), np.uint8)
    both = score_pair(nothing, nothing, None)
    assert (both.mean, both.hd95, both.hd95_mm) == (1, 0, None)
    missed = score_pair(nothing, two_lungs(), (2.0, 2.0))
    assert (missed.mean, missed.hd95, missed.hd95_mm) == (0, pytest.approx(100), pytest.approx(200))
    one_lung = np.where(two_lungs() == 1, 1, 0).astype(np.uint8)
    half = score_pair(one_lung, two_lungs(), None)
    assert (half.right, half.left, half.hd95) == (1, 0, pytest.approx(50))


def test_mask_of_another_size_and_unknown_labels_are_refused() -> None:
    with pytest.raises(EvaluationError, match="80 x 50 pixels and the labelled image 80 x 60"):
        score_pair(two_lungs(), np.zeros((50, 80), np.uint8), None)
    with pytest.raises(EvaluationError, match="label 12"):
        score_pair(two_lungs(), two_lungs() * np.uint8(12), None)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    return images, masks


def write(path: Path, labels: np.ndarray) -> None:
    Image.fromarray(labels).save(path)


def test_report_has_the_contracts_shape_and_averages(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    for name in ("a", "b"):
        write(images / f"{name}.png", two_lungs())
        write(masks / f"{name}.png", two_lungs())
    write(images / "without.png", two_lungs())
    write(masks / "orphan.png", two_lungs())
    calls: list[tuple[int, int]] = []
    report = evaluate_segmentation(
        images,
        masks,
        lambda path: two_lungs(shift=3 if path.stem == "a" else 0),
        progress=lambda done, total: calls.append((done, total)),
    )
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["n"] == 2
    assert document["dice"] == pytest.approx({"right": 0.95, "left": 0.95, "mean": 0.95, "p5": 0.905})
    assert document["hd95"] == pytest.approx(1.5)
    assert document["hd95_mm"] is None
    assert document["per_image"][0] == pytest.approx(
        {"stem": "a", "right": 0.9, "left": 0.9, "mean": 0.9, "hd95": 3.0, "hd95_mm": None}
    )
    assert document["images_without_mask"] == ["without.png"]
    assert document["masks_without_image"] == ["orphan.png"]
    assert document["failed"] == []
    assert calls == [(1, 2), (2, 2)]


def test_mean_is_over_images_of_the_mean_of_the_two_lungs(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    for name in ("a", "b"):
        write(images / f"{name}.png", two_lungs())
        write(masks / f"{name}.png", two_lungs())
    one_lung = np.where(two_lungs() == 1, 1, 0).astype(np.uint8)
    report = evaluate_segmentation(images, masks, lambda path: one_lung if path.stem == "a" else two_lungs())
    assert report.to_dict()["dice"] == pytest.approx({"right": 1, "left": 0.5, "mean": 0.75, "p5": 0.525})


def test_bad_files_are_listed_and_the_rest_goes_on(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    for name in ("good", "small", "text", "unreadable", "twice"):
        write(images / f"{name}.png", two_lungs())
        write(masks / f"{name}.png", two_lungs())
    write(masks / "small.png", two_lungs()[:50])
    (masks / "text.png").write_text("no picture")
    write(images / "twice.tif", two_lungs())

    def segment(path: Path) -> np.ndarray:
        if path.stem == "unreadable":
            raise RadiographError("unreadable.png is truncated: copy it again.")
        return two_lungs()

    report = evaluate_segmentation(images, masks, segment)
    assert list(report.scores) == ["good"]
    assert set(report.failed) == {"small", "text", "unreadable", "twice"}
    assert "80 x 50" in report.failed["small"]
    assert "cannot be read as a label picture" in report.failed["text"]
    assert "truncated" in report.failed["unreadable"]
    assert "Several files are called twice" in report.failed["twice"]


def test_no_pair_and_no_folder_are_one_sentence(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    write(images / "a.png", two_lungs())
    write(masks / "b.png", two_lungs())
    with pytest.raises(EvaluationError, match=r"No image in .* has a mask of the same name"):
        evaluate_segmentation(images, masks, lambda path: two_lungs())
    with pytest.raises(EvaluationError, match="is not a folder"):
        evaluate_segmentation(images / "missing", masks, lambda path: two_lungs())
    write(masks / "a.png", two_lungs()[:9])
    with pytest.raises(EvaluationError, match="None of 1 pairs"):
        evaluate_segmentation(images, masks, lambda path: two_lungs())


def test_cancel_is_passed_on(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    write(images / "a.png", two_lungs())
    write(masks / "a.png", two_lungs())

    def cancelled(path: Path) -> np.ndarray:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        evaluate_segmentation(images, masks, cancelled)


def test_nifti_masks_pair_by_stem_and_bring_their_spacing(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    write(images / "case.1.png", two_lungs())
    volume = sitk.GetImageFromArray(two_lungs()[None])
    volume.SetSpacing((0.25, 0.5, 1.0))
    sitk.WriteImage(volume, str(masks / "case.1.nii.gz"))
    labels, spacing = read_labels(masks / "case.1.nii.gz")
    assert np.array_equal(labels, two_lungs())
    assert spacing == pytest.approx((0.5, 0.25))
    assert stem(masks / "case.1.nii.gz") == "case.1"
    report = evaluate_segmentation(images, masks, lambda path: np.roll(two_lungs(), 4, axis=1))
    score = report.scores["case.1"]
    assert score.hd95 == pytest.approx(4.0)
    assert score.hd95_mm == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("1.2.840.7", "1.2.840.7.png"),
        ("1.2.840.7.dcm", "1.2.840.7.nii.gz"),
        ("a.PNG", "a.gif"),
        (".a.b", None),
    ],
)
def test_stems(image: str, mask: str | None) -> None:
    """A DICOM file is often called by its UID, without an ending; reference masks come in any format."""
    assert stem(Path(image)) == (stem(Path(mask)) if mask else ".a")


def test_spacing_of_the_image_is_asked_where_the_mask_has_none(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    write(images / "a.png", two_lungs())
    write(masks / "a.png", two_lungs())
    report = evaluate_segmentation(images, masks, lambda _: two_lungs(shift=2), spacing=lambda _: (0.2, 0.2))
    assert report.to_dict()["hd95_mm"] == pytest.approx(0.4)
    assert math.isclose(report.scores["a"].hd95, 2.0)


def test_coloured_and_fractional_masks_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    with pytest.raises(EvaluationError, match="not one grey picture"):
        read_labels(tmp_path / "colour.png")
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "fractions.tif")
    with pytest.raises(EvaluationError, match="no labels"):
        read_labels(tmp_path / "fractions.tif")
