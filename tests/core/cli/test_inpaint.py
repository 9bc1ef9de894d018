"""`dino-diffusion inpaint`: what is written, what stays identical in every format, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
import torch
from PIL import Image

from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.files.write_image import write_image
from dino_diffusion.generation import inpaint as library
from dino_diffusion.generation import save_inpainted as saving
from dino_diffusion.generation.composition import IN_PLACE_GUIDANCE, WITHOUT_OPPOSITE
from dino_diffusion.generation.concept import Concept, model_id
from dino_diffusion.generation.painting import AROUND, Inpainting
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from tests.core.radiograph.phantom import PATIENT_ID, chest, dicom

Command = Callable
FAST = ("--steps", 2)
TWELVE, EIGHT = chest(), chest(levels=256, dtype="uint8")
INSIDE = np.zeros(TWELVE.shape, bool)
INSIDE[20:70, 10:40] = True


def film(folder: Path, kind: str) -> Path:
    """A radiograph of the drawn chest."""
    path = folder / f"film.{kind.split('-')[-1]}"
    if kind.endswith("dcm"):
        extra = {"PhotometricInterpretation": "MONOCHROME1"} if kind.startswith("mono1") else {}
        pixels = chest(levels=65536) if kind.startswith("16") else TWELVE
        bits = 16 if kind.startswith("16") else 12
        dicom(path, pixels, bits, WindowCenter=2048, WindowWidth=3000, **extra)
    elif kind in ("8-png", "jpg"):
        Image.fromarray(EIGHT).save(path)
    elif kind == "16-png":
        Image.fromarray(chest(levels=65536)).save(path)
    elif kind == "tif":
        tifffile.imwrite(path, TWELVE)
    else:
        image = SimpleITK.GetImageFromArray(TWELVE[None].astype(np.int16))
        image.SetSpacing((0.3, 0.2, 5.0))
        image.SetDirection((1, 0, 0, 0, 0, 1, 0, -1, 0))
        SimpleITK.WriteImage(image, str(path))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    Image.fromarray(np.where(INSIDE, 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def concept(tmp_path: Path, bundle_folder: Path) -> Path:
    bundle = ModelBundle.from_pretrained(bundle_folder)
    vectors = torch.randn(2, bundle.denoiser.config.token_width, generator=torch.Generator().manual_seed(0))
    return Concept("haze", vectors, model_id(bundle)).save(tmp_path / "haze.safetensors")


@pytest.mark.parametrize(
    "kind",
    ["8-png", "16-png", "jpg", "tif", "nii.gz", "nrrd", "mha", "dcm", "16-dcm", "mono1-dcm"],
)
def test_what_is_written_is_identical_outside_the_mask(
    command: Command, bundle_folder: Path, tmp_path: Path, mask: Path, kind: str
) -> None:
    source, out = film(tmp_path, kind), tmp_path / "out"
    before = source.read_bytes()
    done = command("inpaint", source, "--mask", mask, "-o", out, "--bundle", bundle_folder, *FAST)
    assert done.exit_code == 0, done.output
    radiograph = Radiograph.read(source)
    edited_part = radiograph.source.grid.picture(INSIDE.reshape(radiograph.source.shape))
    ending = {"jpg": "png", "16-dcm": "dcm", "mono1-dcm": "dcm"}.get(kind, kind.split("-")[-1])
    written = Radiograph.read(out / f"film_c0.{ending}")
    assert written.stored.dtype == radiograph.stored.dtype
    assert written.stored[~edited_part].tobytes() == radiograph.stored[~edited_part].tobytes()
    assert (written.stored[edited_part] != radiograph.stored[edited_part]).mean() > 0.3
    assert written.source.grid == radiograph.source.grid
    assert source.read_bytes() == before
    assert f"all {(~INSIDE).sum():,} pixels are identical" in done.stdout
    truth = read_labels(out / f"film_c0_mask.{ending}", written)
    assert np.array_equal(truth > 0, edited_part)
    assert Recipe.read(out / "film_c0.recipe.json") == Recipe.read(out / f"film_c0.{ending}")


def test_every_candidate_has_its_files_and_one_sheet(
    command: Command, bundle_folder: Path, tmp_path: Path, mask: Path, concept: Path
) -> None:
    source, out = film(tmp_path, "8-png"), tmp_path / "out"
    keep = np.zeros(TWELVE.shape, np.uint8)
    keep[30:35] = 1
    Image.fromarray(keep).save(tmp_path / "keep.png")
    arguments = ("--keep", tmp_path / "keep.png", "--concept", f"{concept}:0.5", "--candidates", 2)
    done = command(
        "inpaint", source, "--mask", mask, *arguments, "-o", out, "--bundle", bundle_folder, "--json", *FAST
    )
    assert done.exit_code == 0, done.output
    names = [f"film_c{k}{end}" for k in (0, 1) for end in (".png", ".recipe.json", "_mask.png")]
    assert sorted(path.name for path in out.iterdir()) == [*names, "film_sheet.png"]
    document = json.loads(done.stdout)
    assert document["pixels_outside_identical"] == (~(INSIDE & (keep == 0))).sum()
    assert [candidate["index"] for candidate in document["candidates"]] == [0, 1]
    assert document["candidates"][0]["concepts"] == [["haze", 0.5]]
    first, second = (Radiograph.read(out / f"film_c{k}.png").stored for k in (0, 1))
    assert np.array_equal(first[keep > 0], EIGHT[keep > 0])
    assert not np.array_equal(first, second)
    truth = np.asarray(Image.open(out / "film_c0_mask.png"))
    assert np.array_equal(truth, np.where(INSIDE & (keep == 0), 255, 0))


def test_the_written_files_replay_the_very_pixels(
    command: Command, bundle_folder: Path, tmp_path: Path, mask: Path, concept: Path
) -> None:
    """The image, the mask that was written beside the result, and the concept are all it takes."""
    source, out = film(tmp_path, "nii.gz"), tmp_path / "out"
    made = ("--concept", concept, "--seed", 3, "--candidates", 2, "--texture", "replace", "--feather", 4)
    command("inpaint", source, "--mask", mask, *made, "-o", out, "--bundle", bundle_folder, *FAST)
    inputs = {"image": source, "mask": out / "film_c1_mask.nii.gz", "concept-haze": concept}
    given = [part for name, file in inputs.items() for part in ("--input", f"{name}={file}")]
    done = command("replay", out / "film_c1.nii.gz", *given, "-o", tmp_path, "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    again, made = (
        Radiograph.read(path) for path in (tmp_path / "film_c1_replay.nii.gz", out / "film_c1.nii.gz")
    )
    assert np.array_equal(again.stored, made.stored)


def test_a_dicom_result_is_nobodys_and_its_mask_is_its_own(
    command: Command, bundle_folder: Path, tmp_path: Path, mask: Path
) -> None:
    source, out = film(tmp_path, "dcm"), tmp_path / "out"
    command("inpaint", source, "--mask", mask, "-o", out, "--bundle", bundle_folder, *FAST)
    image, truth = (pydicom.dcmread(out / name) for name in ("film_c0.dcm", "film_c0_mask.dcm"))
    assert image.ImageType[0] == "DERIVED" and image.PatientName == "Synthetic"
    assert PATIENT_ID not in str(image) and PATIENT_ID not in str(truth)
    reference = truth.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPInstanceUID == image.SOPInstanceUID


def test_burning_in_is_opt_in_and_said(
    command: Command, bundle_folder: Path, tmp_path: Path, mask: Path
) -> None:
    source, out = film(tmp_path, "16-png"), tmp_path / "out"
    arguments = ("inpaint", source, "--mask", mask, "--bundle", bundle_folder, *FAST)
    plain, stamped = (
        command(*arguments, *more, "-o", out / name) for more, name in (((), "a"), (["--burn-in"], "b"))
    )
    assert "stamped" in stamped.stdout and "stamped" not in plain.stdout
    before, after = (Radiograph.read(out / name / "film_c0.png") for name in "ab")
    changed = before.stored != after.stored
    assert changed.any() and not changed[:60].any()
    assert after.source.synthetic is not None and after.source.synthetic["checks"]["burned_in"] == "SYNTHETIC"
    assert before.source.synthetic is not None and "burned_in" not in before.source.synthetic["checks"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing(
    command: Command,
    bundle_folder: Path,
    tmp_path: Path,
    mask: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
) -> None:
    """While painting, and between the files of one candidate."""
    source = film(tmp_path, "8-png")
    arguments = ("inpaint", source, "--mask", mask, "--bundle", bundle_folder, *FAST)

    def stop(*_: Any, **__: Any) -> None:
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(Inpainting, "paint", stop)
        done = command(*arguments, "-o", tmp_path / "out")
        assert done.exit_code == (130 if interruption is KeyboardInterrupt else 1)
        assert not (tmp_path / "out").exists()
    monkeypatch.setattr(saving, "write_labelmap", stop)
    command(*arguments, "-o", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_does_not_hold_the_pixels_is_removed(
    command: Command, bundle_folder: Path, tmp_path: Path, mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(radiograph: Radiograph, stored: np.ndarray, *rest: Any, **more: Any) -> Path:
        return write_image(radiograph, np.clip(stored, 1, None), *rest, **more)

    monkeypatch.setattr(saving, "write_image", careless)
    arguments = ("--mask", mask, "--bundle", bundle_folder, "-o", tmp_path / "out", *FAST)
    done = command("inpaint", film(tmp_path, "8-png"), *arguments)
    assert done.exit_code == 1
    assert "does not hold the very pixels" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_an_original_is_never_replaced(
    command: Command, bundle_folder: Path, tmp_path: Path, mask: Path
) -> None:
    """The ground truth of an earlier run, used as the mask of the next into the same folder."""
    source = film(tmp_path, "8-png")
    (tmp_path / "film_c0_mask.png").write_bytes(mask.read_bytes())
    arguments = ("--mask", tmp_path / "film_c0_mask.png", "-o", tmp_path, "--bundle", bundle_folder)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = command("inpaint", source, *arguments, *FAST)
    assert done.exit_code == 1 and "would replace an original" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--mask", "none.png"], 1, "no such file"),
        (["--mask", "{small}"], 1, "the mask has 20 x 20 pixels"),
        (["--mask", "{empty}"], 1, "the mask is empty"),
        (["--mask", "{mask}", "--keep", "{mask}"], 1, "covers all of the mask"),
        (["--mask", "{mask}", "--strength", "0"], 1, "more than 0"),
        (["--mask", "{mask}", "--concept", "nobody-knows"], 1, "nobody-knows"),
        (["--mask", "{mask}", "--candidates", "0"], 2, "--candidates"),
        (["--mask", "{mask}", "--feather", "-1"], 2, "--feather"),
        ([], 2, "--mask"),
    ],
)
def test_bad_calls_say_why_and_leave_nothing(
    command: Command,
    bundle_folder: Path,
    tmp_path: Path,
    mask: Path,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    Image.fromarray(np.full((20, 20), 255, np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.zeros(TWELVE.shape, np.uint8)).save(tmp_path / "empty.png")
    known = {"mask": mask, "small": tmp_path / "small.png", "empty": tmp_path / "empty.png"}
    given = [argument.format(**known) for argument in arguments]
    done = command(
        "inpaint", film(tmp_path, "8-png"), *given, "-o", tmp_path / "out", "--bundle", bundle_folder, *FAST
    )
    assert done.exit_code == code, done.output
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_help_tells_the_librarys_own_defaults(command: Command) -> None:
    said = command("inpaint", "--help").stdout
    settings = library.InpaintSettings()
    for value in (settings.strength, f"{settings.feather_mm:g}", settings.steps):
        assert f"({value})" in said
    for value in (IN_PLACE_GUIDANCE, WITHOUT_OPPOSITE, AROUND):
        assert f"{value}" in said
