"""The benchmarks that decide how a bundle is made, from end to end: tiny and on drawn pictures."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from dino_diffusion.models import Autoencoder, Denoiser
from dino_diffusion.training.latents import load_cache
from tests.core.evaluation.lungs import two_lungs
from tests.tiny import CLS_WIDTH, PATCH_WIDTH, saved_tiny_bundle, smooth_picture, tiny_bundle


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of pictures to train on, held out, and with masks."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number in range(28):
        picture = (smooth_picture(number, 60, 80) * 255).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        row = {"image": f"{number}.png", "split": "train", "mask": "", "source": "drawn"}
        if number >= 12:
            row["split"] = "holdout"
        if number >= 22:
            Image.fromarray(two_lungs(shift=number - 22)).save(folder / f"mask{number}.png")
            row |= {"split": "dev", "mask": f"mask{number}.png"}
        rows.append(row | {"patient_id": str(number)})
    with open(folder / "list.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "list.csv"


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an autoencoder of eight channels whose encoder is linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = Autoencoder(8, (16, 16, 16), residual_encoder=False, norm_num_groups=8).eval()
        autoencoder.fit_linear_path(
            torch.stack([torch.from_numpy(smooth_picture(k)) for k in range(8)])[:, None]
        )
        denoiser = Denoiser(8, (16, 32), 1, 16, 32, CLS_WIDTH, PATCH_WIDTH, norm_num_groups=8)
    folder = tmp_path_factory.mktemp("linear") / "bundle"
    dataclasses.replace(tiny_bundle(), autoencoder=autoencoder, denoiser=denoiser).save_pretrained(folder)
    return folder


Run = Callable[..., ModuleType]


@pytest.fixture
def run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("ablations", LIST, ...)` as on the command line; returns the script."""
    monkeypatch.syspath_prepend(repository / "benchmarks")

    def called(script: str, *arguments: str | Path) -> ModuleType:
        benchmark = importlib.import_module(script)
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        benchmark.main()
        return benchmark

    return called


SMALL = [
    *("--recipe", "smoke/denoiser", "--size", "64", "--steps", "2", "--batch", "2"),
    *("--images", "12", "--samples", "4", "--masks", "6"),
]


def test_rows_are_trained_alike_and_kept(run: Run, listed: Path, linear: Path, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("<!-- measured: benchmarks/ablations.py -->\n<!-- end of measured -->\n")
    arguments = [listed, "--bundle", linear, "--work", tmp_path, *SMALL, "--write", document, "--rows"]
    run("ablations", *arguments, "base,4-channels")
    report = json.loads((tmp_path / "ablations.json").read_text())
    base, few = (report["rows"][name] for name in ("base", "4-channels"))
    for row in (base, few):
        assert 0 <= row["lung_auc"] <= 1 and row["kid"]["low"] <= row["kid"]["value"] <= row["kid"]["high"]
    assert base["kid_perfect"] != few["kid_perfect"]
    assert all(report["trained"][name]["steps"] == 2 for name in report["rows"])
    assert "| 4-channels | 4 latent channels |" in document.read_text()
    check_leading_channels(tmp_path)
    before = (tmp_path / "ablations.json").read_bytes()
    run("ablations", *arguments, "4-channels,base")
    assert (tmp_path / "ablations.json").read_bytes() == before, "what is there was made again"
    with pytest.raises(SystemExit, match="another steps; name another folder"):
        run("ablations", *arguments, "base", "--steps", "3")


def check_leading_channels(work: Path) -> None:
    """The row of four channels sees the first half of the base's latents, and encodes pictures to them."""
    full, few = (load_cache(work / name / "latents", (64,)) for name in ("base", "4-channels"))
    assert torch.equal(full.latents[64][:, :4], few.latents[64])
    assert torch.equal(full.cls, few.cls)
    picture = torch.from_numpy(smooth_picture(3))[None, None]
    own, fewer = (Autoencoder.from_pretrained(work / f"autoencoder-{name}") for name in ("all", "4"))
    assert torch.allclose(fewer.encode(picture), own.encode(picture)[:, :4], atol=1e-5)


@pytest.mark.slow
def test_every_row_can_be_trained(run: Run, listed: Path, linear: Path, tmp_path: Path) -> None:
    run("ablations", listed, "--bundle", linear, "--work", tmp_path, *SMALL)
    report = json.loads((tmp_path / "ablations.json").read_text())["rows"]
    assert list(report) == list(importlib.import_module("ablation_rows").ROWS)
    assert report["cls"]["weights"] < report["base"]["weights"] < report["wider"]["weights"]


def test_a_residual_encoder_is_refused(run: Run, listed: Path, tmp_path: Path) -> None:
    tiny = saved_tiny_bundle(tmp_path / "tiny")
    with pytest.raises(SystemExit, match="linear encoder"):
        run("ablations", listed, "--bundle", tiny, "--work", tmp_path / "work", *SMALL)


def test_unknown_row_is_one_sentence(run: Run, listed: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no row best; take some of base,"):
        run("ablations", listed, "--work", tmp_path, "--rows", "best")


def test_storage_is_compared_on_the_same_samples(
    run: Run, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = saved_tiny_bundle(tmp_path / "tiny")
    arguments = ["--samples", "4", "--steps", "2", "--masks", "3", "--work", tmp_path / "work"]
    run("storage", listed, "--bundle", tiny, *arguments)
    report = json.loads((tmp_path / "work" / "storage.json").read_text())
    half, eight = (report["ways"][way] for way in ("float16", "int8"))
    assert eight["megabytes"] < half["megabytes"]
    difference = report["difference"]
    assert 0 < difference["mean"] <= difference["worst_picture"] <= difference["pixel"] <= 1
    assert "| int8 |" in capsys.readouterr().out


def test_tokens_that_are_left_out_do_not_count(
    run: Run, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = run("tokens", listed, "--images", "3", "--bundle", saved_tiny_bundle(tmp_path / "tiny"))
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[4:]] == [
        f"| {name}" for name in benchmark.CASES
    ]
    bundle, files = tiny_bundle(), [listed.parent / f"{number}.png" for number in range(3)]
    before = benchmark.losses(bundle, files)
    with torch.no_grad():
        bundle.encoder.cls_whitening.mean += 1
    after = benchmark.losses(bundle, files)
    heeded = {name for name, values in before.items() if not torch.equal(values, after[name])}
    assert heeded == {"CLS and patches", "CLS alone"}
