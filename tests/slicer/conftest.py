"""What the tests of the extension share. A skipped test is a failure: all it needs is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from tests.slicer.places import EXTENSION, REPOSITORY

for module in ("DiNODiffusion", "SegmentEditorLungLobes", "SegmentEditorDiffusionInpaint"):
    sys.path.insert(0, str(EXTENSION / module))

from DiNODiffusionLib.net.address import Address
from DiNODiffusionLib.net.transport import Transport

from tests.slicer.bench import Bench
from tests.slicer.fake_server import TOKEN, FakeServer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which counts as a failure here: {report.longrepr}"
    return report


@pytest.fixture
def server() -> Iterator[FakeServer]:
    running = FakeServer()
    yield running
    running.close()


@pytest.fixture
def transport(server: FakeServer) -> Iterator[Transport]:
    made = Transport(Address.parse(server.url), TOKEN)
    yield made
    made.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def connected(bench: Bench, server: FakeServer) -> Bench:
    bench.connect(server)
    assert bench.said.startswith("Connected"), bench.said
    return bench


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where the pictures of a test run go, to be looked at."""
    folder = REPOSITORY / "out" / "slicer"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
