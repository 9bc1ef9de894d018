"""`dino-diffusion learn` and `segment --embedding`: files, labels, words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.segmentation import heads

Command = Callable


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "STEPS", 60)


def save_mask(path: Path, *values: int, shape: tuple[int, int] = (48, 40)) -> Path:
    mask = np.zeros(shape, np.uint8)
    for number, value in enumerate(values):
        mask[10:34, 4 + 16 * number : 18 + 16 * number] = value
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return save_mask(tmp_path / "mask.png", 20, 21)


def test_what_is_learnt_is_applied_with_the_masks_own_values(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, mask: Path
) -> None:
    file = tmp_path / "bones.safetensors"
    film = radiographs / "a.png"
    learnt = command(
        "learn", film, mask, "-o", file, "--label", "20", "--label", "21=left clavicle",
        "--bundle", bundle_folder, "--json",
    )  # fmt: skip
    assert learnt.exit_code == 0, learnt.output
    about = json.loads(learnt.stdout)
    assert about["name"] == "bones" and about["examples"] == 1 and about["bytes"] < 1e6
    assert [entry["segment"]["name"] for entry in about["segments"]] == ["bones 20", "left clavicle"]
    done = command(
        "segment", film, "--embedding", file, "-o", tmp_path / "out", "--overlay", "--json",
        "--bundle", bundle_folder,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["embeddings"][0]["name"] == "bones"
    entry = document["results"][0]
    assert [area["label"] for area in entry["segments"]] == [20, 21] and "lungs" not in entry
    labels = np.asarray(Image.open(entry["labelmap"]))
    assert labels.shape == (48, 40) and set(np.unique(labels)) <= {0, 20, 21}
    assert Path(entry["overlay"]).is_file()


def test_more_examples_at_once_or_one_after_the_other(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, mask: Path
) -> None:
    pair = radiographs / "a.png", mask
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    done = command("learn", *pair, radiographs / "b.png", mask, "-o", first, "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    assert "from 2 examples" in done.stdout
    done = command(
        "learn", radiographs / "c.png", mask, "--from", first, "-o", second, "--bundle", bundle_folder
    )
    assert done.exit_code == 0, done.output
    assert "'first' from 3 examples in" in done.stdout


def test_an_empty_mask_beside_an_example_says_that_nothing_is_there(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, mask: Path
) -> None:
    empty, file = tmp_path / "empty.png", tmp_path / "x.safetensors"
    save_mask(empty)
    pairs = radiographs / "a.png", mask, radiographs / "b.png", empty
    done = command("learn", *pairs, "-o", file, "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    assert "from 2 examples (1 without it) in" in done.stdout
    done = command(
        "learn", radiographs / "c.png", empty, "--from", file, "-o", tmp_path / "y.safetensors", "--bundle",
        bundle_folder,
    )  # fmt: skip
    assert done.exit_code == 1 and "teach only beside one that shows it" in done.stderr
    assert not (tmp_path / "y.safetensors").exists()


def test_several_structures_at_once_need_different_values(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, mask: Path
) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, label in zip(files, (20, 21), strict=True):
        film = radiographs / "a.png"
        done = command("learn", film, mask, "-o", file, "--label", label, "--bundle", bundle_folder)
        assert done.exit_code == 0, done.output
    both = [part for file in files for part in ("--embedding", file)]
    out = tmp_path / "out"
    done = command("segment", radiographs, *both, "-o", out, "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    assert len(list(out.iterdir())) == 3
    twice = ["--embedding", files[0], "--embedding", files[0]]
    done = command("segment", radiographs, *twice, "-o", out, "--bundle", bundle_folder)
    assert done.exit_code == 1 and "both give the label 20" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "small.png", "-o", "x.safetensors"], "own grid"),
        (["a.png", "empty.png", "-o", "x.safetensors"], "empty"),
        (["a.png", "b.png", "-o", "x.safetensors"], "looks like an image"),
        (["a.png", "-o", "x.safetensors"], "stands alone"),
        (["a.png", "nothing.png", "-o", "x.safetensors"], "no such file"),
        (["a.png", "mask.png", "-o", "x.png"], ".safetensors"),
        (["a.png", "mask.png", "-o", "x.safetensors", "--label", "0"], "from 1 to 255"),
        (["a.png", "mask.png", "-o", "x.safetensors", "--label", "9"], "hold 20"),
        (["a.png", "mask.png", "-o", "x.safetensors", "--from", "a.png"], "a.png: cannot be read"),
    ],
)
def test_mistakes_get_a_sentence_and_leave_nothing(
    command: Command,
    radiographs: Path,
    bundle_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(radiographs)
    save_mask(radiographs / "mask.png", 20)
    save_mask(radiographs / "empty.png")
    save_mask(radiographs / "small.png", 20, shape=(40, 40))
    done = command("learn", *arguments, "--bundle", bundle_folder)
    assert done.exit_code == 1, done.output
    assert words in done.stderr and "Traceback" not in done.output
    assert not list(radiographs.glob("x.*"))


def test_what_is_learnt_is_measured_label_by_label(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    masks, file = tmp_path / "masks", tmp_path / "bones.safetensors"
    masks.mkdir()
    for name, values in (("a", (20, 21)), ("b", (20, 21)), ("c", (20,))):
        save_mask(masks / f"{name}.png", *values)
    pair = radiographs / "a.png", masks / "a.png"
    command(
        "learn", *pair, "-o", file, "--label", "20", "--label", "21=left clavicle", "--bundle", bundle_folder
    )
    done = command(
        "evaluate", "segmentation", "--images", radiographs, "--masks", masks, "--embedding", file,
        "-o", tmp_path / "out", "--bundle", bundle_folder,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "left clavicle: shown on 2 of 3 images (Dice 0." in done.stdout
    assert "of 1 without it" in done.stdout
    assert (tmp_path / "out" / "worst_cases.png").is_file()
    lines = (tmp_path / "out" / "per_image.csv").read_text().splitlines()
    assert lines[0].startswith("stem,20,21,mean") and len(lines) == 4
    assert float(lines[1].split(",")[3]) > 0.3  # the very image it was learnt from
