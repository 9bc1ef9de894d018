"""`dino-diffusion synthesize` and `evaluate utility`: files, words, the JSON document, what is refused."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.generation import synthesize as library
from tests.core.cli.test_process import LAUNCH
from tests.tiny import smooth_picture

Command = Callable
FAST = ("--steps", 2)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return listed(tmp_path / "pool.csv", range(8))


def listed(path: Path, seeds: range) -> Path:
    """Pictures of two classes and their list."""
    rows = ["image,label,patient"]
    for seed in seeds:
        picture = (smooth_picture(seed).clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(picture).save(path.with_name(f"{seed}.png"))
        rows.append(f"{seed}.png,{'ill' if seed % 2 else 'well'},p{seed}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_set_is_made_told_and_gone_on_with(
    command: Command, pool: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    done = command("synthesize", pool, "-n", 3, "-o", out, "--bundle", bundle_folder, *FAST)
    assert done.exit_code == 0, done.output
    assert "3 images (2 ill, 1 well), 0 of them from an earlier run" in done.stdout
    with (out / "manifest.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [
            "ill_00000.png",
            "well_00000.png",
            "ill_00001.png",
        ]
    again = command("synthesize", pool, "-n", 4, "-o", out, "--bundle", bundle_folder, "--json", *FAST)
    document = json.loads(again.stdout)
    assert (document["images"], document["kept"]) == (4, 3)
    assert document["labels"] == {"ill": 2, "well": 2}


def test_ctrl_c_leaves_whole_files_and_no_manifest(
    command: Command, pool: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, out, made = library.generate, tmp_path / "made", []

    def interrupted(*given: object, **options: object) -> object:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return honest(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(library, "generate", interrupted)
    done = command("synthesize", pool, "-n", 4, "-o", out, "--bundle", bundle_folder, *FAST)
    assert done.exit_code == 130
    assert sorted(path.name for path in out.iterdir()) == [
        "ill_00000.png",
        "ill_00000.recipe.json",
        "synthesis.json",
        "well_00000.png",
        "well_00000.recipe.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-n", "0"], 2),
        (["-n", "1"], 1),
        (["--method", "magic"], 2),
        (["--strength", "0.5"], 1),
        (["--method", "concept", "--jitter", "0.5"], 1),
        (["--workers", "0"], 2),
    ],
)
def test_bad_calls_say_why_and_leave_nothing(
    command: Command, pool: Path, bundle_folder: Path, tmp_path: Path, arguments: list[str], code: int
) -> None:
    count = [] if "-n" in arguments else ["-n", "4"]
    done = command("synthesize", pool, *count, "-o", tmp_path / "made", "--bundle", bundle_folder, *arguments)
    assert done.exit_code == code, done.output
    assert done.stderr.strip() and "Traceback" not in done.output
    assert not (tmp_path / "made").exists()


def test_a_bad_list_is_one_sentence(command: Command, bundle_folder: Path, tmp_path: Path) -> None:
    done = command("synthesize", tmp_path / "none.csv", "-n", 4, "-o", tmp_path, "--bundle", bundle_folder)
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "none.csv" in done.stderr


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_processes_of_a_launcher_share_the_work(pool: Path, bundle_folder: Path, tmp_path: Path) -> None:
    """As `accelerate launch` and torchrun start them, told apart by these variables."""
    out = tmp_path / "made"
    arguments = ("synthesize", pool, "-n", 6, "-o", out, "--bundle", bundle_folder, "--method", "concept")
    processes = [
        start(*arguments, "--inversion-steps", 2, *FAST, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
        for rank in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert "6 images" in ends[0][0] and not ends[1][0]
    assert len((out / "manifest.csv").read_text().splitlines()) == 7


@pytest.mark.slow
def test_ctrl_c_ends_workers_too(pool: Path, bundle_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    process = start(
        "synthesize", pool, "-n", 5000, "-o", out, "--bundle", bundle_folder, "--workers", 2, *FAST
    )
    try:
        while not out.is_dir() or len(list(out.glob("*.json"))) < 4:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    names = {path.name for path in out.iterdir()}
    assert not [name for name in names if name.startswith(".")]
    assert {name[:-4] for name in names if name.endswith(".png")} == {
        name.removesuffix(".recipe.json") for name in names if name.endswith(".recipe.json")
    }


@pytest.mark.slow
def test_utility_writes_its_report_and_goes_on(
    command: Command, pool: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra 'evaluation'")
    made, out = tmp_path / "made", tmp_path / "utility"
    command("synthesize", pool, "-n", 6, "-o", made, "--bundle", bundle_folder, *FAST)
    (tmp_path / "test").mkdir()
    test = listed(tmp_path / "test" / "test.csv", range(20, 30))
    arguments = (
        "evaluate", "utility", "--real", pool, "--synthetic", made / "manifest.csv", "--test", test,
        "-o", out, "--seeds", 2, "--steps", 2, "--batch", 4,
    )  # fmt: skip
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    assert "real alone" in done.stdout and "synthetic alone" in done.stdout
    names = {path.name for path in out.iterdir()}
    assert names == {"trainings", *(f"utility.{ending}" for ending in ("json", "csv", "md", "png"))}
    trainings = {path: path.stat().st_mtime_ns for path in (out / "trainings").iterdir()}
    assert len(trainings) == 12
    document = json.loads(command(*arguments, "--json").stdout)
    assert {path: path.stat().st_mtime_ns for path in (out / "trainings").iterdir()} == trainings
    assert document["images"]["real"] == {"positive": 4, "negative": 4}
    refused = command("evaluate", "utility", "--real", pool, "--synthetic", pool, "--test", pool)
    assert refused.exit_code == 1 and "split the lists by patient" in refused.stderr
