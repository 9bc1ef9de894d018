"""`dino-diffusion invert` and `concepts`: the file, what it says, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_diffusion.errors import Cancelled
from dino_diffusion.generation import invert as library
from dino_diffusion.generation.concept import Concept

Command = Callable[..., Any]
FAST = ("--steps", 2, "--vectors", 2)


def test_a_concept_is_learnt_and_described(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out" / "waves.safetensors"
    done = command(
        "invert", radiographs, "--name", "waves", "-o", target, "--licence", "CC0",
        "--bundle", bundle_folder, *FAST,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert [path.name for path in target.parent.iterdir()] == ["waves.safetensors"]
    concept = Concept.load(target)
    assert (concept.name, len(concept.vectors), concept.images) == ("waves", 2, 3)
    assert concept.licence == "CC0"
    assert "2 vectors from 3 images" in done.stdout
    shown = command("concepts", target, "--bundle", bundle_folder)
    assert "2 vectors, 3 images" in shown.stdout
    assert "not for this bundle" not in shown.stdout


def test_a_concept_is_told_from_another(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    waves, calm = tmp_path / "waves.safetensors", tmp_path / "calm.safetensors"
    for target, more in ((calm, ()), (waves, ("--against", calm))):
        done = command(
            "invert",
            radiographs,
            "--name",
            target.stem,
            "-o",
            target,
            "--bundle",
            bundle_folder,
            *FAST,
            *more,
        )
        assert done.exit_code == 0, done.output
    opposite = Concept.load(waves).opposite
    assert opposite is not None and torch.equal(opposite, Concept.load(calm).vectors)
    assert "against calm" in command("concepts", waves, "--bundle", bundle_folder).stdout


def test_json(command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "waves.safetensors"
    done = command(
        "invert", radiographs, "--name", "waves", "-o", target, "--json", "--bundle", bundle_folder, *FAST
    )
    document = json.loads(done.stdout)
    assert document["concept"] == str(target)
    assert document["bytes"] == target.stat().st_size < 10**6
    assert document["settings"]["figures"].keys() == {"flow", "flow_class_mean"}


def test_a_list_gives_images_licence_and_source(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    listed = radiographs / "list.csv"
    listed.write_text("image,finding,licence,source\na.png,A|B,CC0,NIH\nb.png,B,CC0,NIH\nc.png,C,own,x\n")
    target = tmp_path / "b.safetensors"
    done = command(
        "invert", listed, "--where", "finding=B", "--name", "b", "-o", target,
        "--bundle", bundle_folder, *FAST,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    concept = Concept.load(target)
    assert (concept.images, concept.licence, concept.source) == (2, "CC0", "NIH")


def test_a_stopped_run_leaves_no_concept_and_goes_on(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, work = tmp_path / "out" / "waves.safetensors", tmp_path / "work"
    arguments = (
        "invert", radiographs, "--name", "waves", "-o", target, "--work", work,
        "--bundle", bundle_folder, *FAST,
    )  # fmt: skip
    honest = library.learn

    def interrupted(*given: Any) -> Concept:
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "learn", interrupted)
    assert command(*arguments).exit_code == 130
    assert not target.exists()
    monkeypatch.setattr(library, "learn", honest)
    assert command(*arguments).exit_code == 0
    assert target.exists()


def test_cancelling_is_one_sentence(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(*given: Any) -> Concept:
        raise Cancelled("Stopped after step 3; the same command goes on there.")

    monkeypatch.setattr(library, "learn", cancelled)
    done = command(
        "invert", radiographs, "--name", "a", "-o", tmp_path / "a.safetensors", "--bundle", bundle_folder
    )
    assert done.exit_code == 1
    assert "Traceback" not in done.output


def test_a_concept_of_another_bundle_is_marked(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    import torch

    path = Concept("old", torch.zeros(1, 8), "0" * 16).save(tmp_path / "old.safetensors")
    done = command("concepts", path, "--bundle", bundle_folder)
    assert done.exit_code == 0, done.output
    assert "not for this bundle" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--vectors", "0"], 2),
        (["--vectors", "65"], 2),
        (["--steps", "0"], 2),
        (["--name", "a/b"], 1),
        (["--where", "finding"], 1),
        (["missing.png"], 1),
    ],
)
def test_bad_calls_say_why_and_leave_nothing(
    command: Command, radiographs: Path, bundle_folder: Path, tmp_path: Path, arguments: list[str], code: int
) -> None:
    name = [] if "--name" in arguments else ["--name", "a"]
    target = tmp_path / "out" / "a.safetensors"
    done = command("invert", radiographs, *name, "-o", target, "--bundle", bundle_folder, *arguments)
    assert done.exit_code == code, done.output
    assert done.stderr.strip()
    assert "Traceback" not in done.output
    assert not target.parent.exists()


def test_an_unknown_concept_is_told(command: Command, bundle_folder: Path) -> None:
    done = command("concepts", "no-such-thing", "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert "no concept 'no-such-thing'" in done.stderr


def test_help_tells_the_librarys_own_defaults(command: Command) -> None:
    said = command("invert", "--help").stdout
    assert f"({library.DEFAULT_STEPS})" in said
    assert f"[default: {library.DEFAULT_VECTORS}]" in said
