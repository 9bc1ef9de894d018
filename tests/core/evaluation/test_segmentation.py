"""Folders of images and masks: the report, its intervals, bad files, worst cases."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dino_diffusion.errors import Cancelled, RadiographError
from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.evaluation.cases import TILE, worst_cases, write_table
from dino_diffusion.evaluation.labelfiles import read_labels, stem
from dino_diffusion.evaluation.overlap import structures_of
from dino_diffusion.evaluation.segmentation import Prediction, evaluate_segmentation
from tests.core.evaluation.lungs import two_lungs


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
        lambda path: Prediction(two_lungs(shift=3 if path.stem == "a" else 0), 0.4, ("Look at it.",)),
        progress=lambda done, total: calls.append((done, total)),
    )
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["n"] == 2
    assert document["dice"] == pytest.approx({"right": 0.95, "left": 0.95, "mean": 0.95, "p5": 0.905})
    assert document["hd95"] == pytest.approx(1.5)
    assert document["hd95_mm"] is None
    assert document["per_image"][0] == (
        {
            "stem": "a",
            "right": pytest.approx(0.9),
            "left": pytest.approx(0.9),
            "mean": pytest.approx(0.9),
            "hd95": pytest.approx(3.0),
            "hd95_mm": None,
            "uncertainty": 0.4,
            "negative": False,
            "mirrored": False,
            "foreign": False,
            "warnings": ["Look at it."],
        }
    )
    assert document["share_with_warnings"] == 1
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
    report = evaluate_segmentation(
        images, masks, lambda path: Prediction(one_lung if path.stem == "a" else two_lungs())
    )
    assert report.to_dict()["dice"] == pytest.approx({"right": 1, "left": 0.5, "mean": 0.75, "p5": 0.525})


def test_bad_files_are_listed_and_the_rest_goes_on(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    for name in ("good", "small", "text", "unreadable", "twice"):
        write(images / f"{name}.png", two_lungs())
        write(masks / f"{name}.png", two_lungs())
    write(masks / "small.png", two_lungs()[:50])
    (masks / "text.png").write_text("no picture")
    write(images / "twice.tif", two_lungs())

    def segment(path: Path) -> Prediction:
        if path.stem == "unreadable":
            raise RadiographError("unreadable.png is truncated: copy it again.")
        return Prediction(two_lungs())

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
        evaluate_segmentation(images, masks, lambda path: Prediction(two_lungs()))
    with pytest.raises(EvaluationError, match="is not a folder"):
        evaluate_segmentation(images / "missing", masks, lambda path: Prediction(two_lungs()))
    write(masks / "a.png", two_lungs()[:9])
    with pytest.raises(EvaluationError, match="None of 1 pairs"):
        evaluate_segmentation(images, masks, lambda path: Prediction(two_lungs()))


def test_cancel_is_passed_on(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    write(images / "a.png", two_lungs())
    write(masks / "a.png", two_lungs())

    def cancelled(path: Path) -> Prediction:
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
    report = evaluate_segmentation(images, masks, lambda path: Prediction(np.roll(two_lungs(), 4, axis=1)))
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
    report = evaluate_segmentation(
        images, masks, lambda _: Prediction(two_lungs(shift=2)), spacing=lambda _: (0.2, 0.2)
    )
    assert report.to_dict()["hd95_mm"] == pytest.approx(0.4)
    assert math.isclose(report.scores["a"].hd95, 2.0)


def test_coloured_and_fractional_masks_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    with pytest.raises(EvaluationError, match="not one grey picture"):
        read_labels(tmp_path / "colour.png")
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "fractions.tif")
    with pytest.raises(EvaluationError, match="no labels"):
        read_labels(tmp_path / "fractions.tif")


@pytest.fixture
def twelve(folders: tuple[Path, Path]) -> tuple[Path, Path]:
    """Twelve files; `shifted_by_number` labels them the worse the higher their number is."""
    images, masks = folders
    for number in range(12):
        write(images / f"{number:02}.png", two_lungs() * np.uint8(80))
        write(masks / f"{number:02}.png", two_lungs())
    return folders


def shifted_by_number(path: Path) -> Prediction:
    return Prediction(two_lungs(shift=int(path.stem)), uncertainty=int(path.stem) / 20)


def test_every_figure_has_an_interval_around_it(twelve: tuple[Path, Path]) -> None:
    document = evaluate_segmentation(*twelve, shifted_by_number).to_dict()
    assert document["ci95"]["dice"].keys() == document["dice"].keys()
    for name, value in document["dice"].items():
        low, high = document["ci95"]["dice"][name]
        assert low <= value <= high and low < high
    low, high = document["ci95"]["hd95"]
    assert low < document["hd95"] < high
    assert document["ci95"]["hd95_mm"] is None
    assert document == evaluate_segmentation(*twelve, shifted_by_number).to_dict()


def test_uncertainty_that_grows_with_the_error_finds_every_failure(twelve: tuple[Path, Path]) -> None:
    """Dice is 1 - shift / 30: below 0.85 from a shift of 5 on."""
    found = evaluate_segmentation(*twelve, shifted_by_number).to_dict()["uncertainty"]
    assert (found["n"], found["n_below"], found["auroc"]) == (12, 7, 1)
    assert found["spearman"] == pytest.approx(-1)


def test_a_limit_takes_pairs_evenly(twelve: tuple[Path, Path]) -> None:
    (twelve[1] / "orphan.png").write_bytes((twelve[1] / "00.png").read_bytes())
    report = evaluate_segmentation(*twelve, shifted_by_number, limit=3)
    assert list(report.scores) == ["02", "06", "10"]
    assert report.masks_alone == []


def test_other_structures_than_lungs(twelve: tuple[Path, Path]) -> None:
    report = evaluate_segmentation(*twelve, shifted_by_number, structures=structures_of([2]))
    assert report.to_dict()["dice"].keys() == {"2", "mean", "p5"}
    assert report.to_dict()["presence"] == {}, "every image shows it"


def test_images_that_do_not_show_a_structure_are_told_apart(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    drawn = np.zeros((20, 20), np.uint8)
    drawn[5:15, 5:15] = 20
    half, nothing = np.where(np.arange(20) < 10, drawn, 0).astype(np.uint8), np.zeros_like(drawn)
    cases = {
        "half": (drawn, half),
        "missed": (drawn, nothing),
        "false": (nothing, half),
        "none": (nothing,) * 2,
    }
    for name, (mask, _) in cases.items():
        write(images / f"{name}.png", drawn)
        write(masks / f"{name}.png", mask)
    report = evaluate_segmentation(
        images, masks, lambda path: Prediction(cases[path.stem][1]), structures=structures_of([20])
    ).to_dict()
    assert report["dice"]["mean"] == pytest.approx((2 / 3 + 0 + 0 + 1) / 4)
    assert report["presence"]["20"] == pytest.approx(
        {"showing": 2, "dice": 1 / 3, "missed": 1, "without": 2, "falsely_found": 1}
    )


def test_table_and_page_of_the_worst(twelve: tuple[Path, Path], tmp_path: Path) -> None:
    report = evaluate_segmentation(*twelve, shifted_by_number)
    assert [case.image.stem for case in report.worst(3)] == ["11", "10", "09"]
    with open(write_table(report.to_dict()["per_image"], tmp_path / "out" / "t.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert (rows[3]["stem"], float(rows[3]["mean"])) == ("03", pytest.approx(0.9))
    assert (rows[3]["hd95_mm"], rows[3]["warnings"]) == ("", "")
    page = worst_cases(report, shifted_by_number, count=4)
    assert page.ndim == 3 and page.dtype == np.uint8
    assert page.shape[1] > 4 * TILE and page.shape[0] > 2 * TILE


def test_worst_cases_of_a_file_that_does_not_lie_upright(folders: tuple[Path, Path]) -> None:
    """Labels and mask lie as the file does; the page turns all three alike."""
    images, masks = folders
    volume = sitk.GetImageFromArray((two_lungs() * np.uint8(80))[None])
    volume.SetDirection((0, -1, 0, 0, 0, 1, -1, 0, 0))  # rows and columns exchanged, one flipped
    sitk.WriteImage(volume, str(images / "a.nii.gz"))
    write(masks / "a.png", two_lungs())
    report = evaluate_segmentation(images, masks, lambda _: Prediction(two_lungs()))
    assert worst_cases(report, lambda _: Prediction(two_lungs())).dtype == np.uint8
