"""Our sampling loop beside diffusers' own, over the same tiny network: the same pictures."""

from __future__ import annotations

import importlib
from argparse import Namespace
from pathlib import Path

import pytest

from tests.tiny import tiny_bundle


def test_the_loop_gives_what_diffusers_gives(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    benchmark = importlib.import_module("generation")
    report = benchmark.measure(tiny_bundle(), Namespace(images=2, steps=6, repeats=1))
    assert report["largest_difference"] < 0.03
    assert set(report["speed_up"]) == {"ours", "ours, guidance at every step"}
    assert "times as fast" in benchmark.table(report)
