"""`dino-diffusion sd`: learn, paint, compose, interpolate and inpaint with a Stable Diffusion checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.radiograph import Radiograph
from tests.core.generation.tiny_stable_diffusion import WIDTH, saved_checkpoint
from tests.tiny import smooth_picture

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_checkpoint(tmp_path_factory.mktemp("checkpoint") / "sd")


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In AUTOMATIC1111's layout."""
    path = tmp_path_factory.mktemp("embedding") / "effusion.pt"
    vectors = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.save({"string_to_param": {"*": vectors}, "name": "effusion"}, path)
    return path


def test_learnt_concepts_paint(command: Command, radiographs: Path, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "waves.safetensors"
    done = command(
        "sd", "invert", radiographs, "--name", "waves", "--backbone", checkpoint, "-o", target,
        "--vectors", 3, "--steps", 2, "--licence", "CC0", "--diffusers",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "learned_embeds.safetensors").is_file()
    concept = Concept.load(target)
    assert (len(concept.vectors), concept.images, concept.licence) == (3, 3, "CC0")
    done = command(
        "sd", "generate", "--concept", target, "--backbone", checkpoint, "-o", tmp_path / "out",
        "--steps", 2, "-n", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["sd_s0_0.png", "sd_s0_1.png"]


def test_foreign_embeddings_compose(
    command: Command, checkpoint: Path, embedding: Path, tmp_path: Path
) -> None:
    done = command(
        "sd", "generate", "--concept", f"{embedding}:0.7", "--concept", f"{embedding}:0.3", "--json",
        "--backbone", checkpoint, "-o", tmp_path, "--steps", 2, "--prompt", "x-ray of {}",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    picture = Path(json.loads(done.stdout)["files"][0])
    mark = Radiograph.read(picture).source.synthetic
    assert mark is not None
    assert mark["parameters"]["concepts"] == [["effusion", 0.7], ["effusion", 0.3]]


def test_a_strip_of_three_channels(
    command: Command, checkpoint: Path, embedding: Path, tmp_path: Path
) -> None:
    done = command(
        "sd", "strip", "--from", embedding, "--to", embedding, "--frames", 2, "--channels",
        "--backbone", checkpoint, "-o", tmp_path, "--steps", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.glob("*.png"))) == 2 * 3


def test_mri_slices_are_learnt_from_their_sequences(
    command: Command, checkpoint: Path, radiographs: Path, tmp_path: Path
) -> None:
    listed = radiographs / "list.csv"
    listed.write_text("t2w,adc,highb\na.png,b.png,c.png\n")
    done = command(
        "sd", "invert", listed, "--name", "slice", "--backbone", checkpoint, "--json",
        "-o", tmp_path / "slice.safetensors", "--vectors", 2, "--steps", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 1


def test_outside_the_mask_the_file_keeps_every_value(
    command: Command, checkpoint: Path, embedding: Path, tmp_path: Path
) -> None:
    deep = (smooth_picture(4, 90, 70) * 65535).clip(0, 65535).astype(np.uint16)
    mask = np.zeros(deep.shape, np.uint8)
    mask[30:60, 20:50] = 1
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    done = command(
        "sd", "inpaint", tmp_path / "deep.png", "--mask", tmp_path / "mask.png", "--concept", embedding,
        "--backbone", checkpoint, "-o", tmp_path / "out", "--steps", 2, "--candidates", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for number in range(2):
        made = Radiograph.read(tmp_path / "out" / f"deep_c{number}.png").stored
        assert made.dtype == deep.dtype
        assert np.array_equal(made[mask == 0], deep[mask == 0])
        assert (made[mask == 1] != deep[mask == 1]).mean() > 0.5
        recipe = Recipe.read(tmp_path / "out" / f"deep_c{number}.recipe.json")
        assert set(recipe.inputs) == {"image", "mask", "concept-effusion"}


def test_bad_calls_say_why_and_leave_nothing(
    command: Command, checkpoint: Path, embedding: Path, tmp_path: Path
) -> None:
    (tmp_path / "program.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    out = tmp_path / "out"
    for concept, backbone in (
        (tmp_path / "program.pt", checkpoint),
        (tmp_path / "missing.pt", checkpoint),
        (embedding, tmp_path),
    ):
        done = command("sd", "generate", "--concept", concept, "--backbone", backbone, "-o", out)
        assert done.exit_code == 1, done.output
        assert "Traceback" not in done.output
        assert len(done.stderr.strip().splitlines()[-1]) > 20
    assert not out.exists()
