"""The window keeps ticking, whoever holds Python's interpreter lock."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from DiNODiffusionLib.net import client
from DiNODiffusionLib.net.address import Address
from DiNODiffusionLib.net.errors import Cancelled
from DiNODiffusionLib.net.messages import Request
from DiNODiffusionLib.net.tasks import Task
from DiNODiffusionLib.net.transport import Transport

from tests.slicer import doubles
from tests.slicer.places import REPOSITORY

HOLD_US = 15_000
"""How long the main loop keeps the lock between two ticks, as Slicer's own does; PyDLL keeps it."""

lock_holding_sleep = ctypes.PyDLL(None).usleep
polite_sleep = ctypes.CDLL(None).usleep


@pytest.fixture(scope="module")
def slicer_double() -> SimpleNamespace:
    return doubles.start()


@pytest.fixture(scope="module")
def far_server() -> Iterator[Transport]:
    """In a process of its own: in ours it would starve of the lock itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.slicer.fake_server"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Transport(Address.parse(f"127.0.0.1:{int(process.stdout.readline())}"))
    finally:
        process.stdin.close()
        process.wait(10)


def drive(
    double: SimpleNamespace, transport: Transport, path: str, sleep: Callable[[int], object]
) -> SimpleNamespace:
    """One request under a main loop that sleeps: seconds it took, ticks of another timer meanwhile."""
    from DiNODiffusionLib.net.pump import Pump

    pump, ticks, got = Pump(), [], []
    clock = double.qt.QTimer()
    clock.setInterval(10)
    clock.timeout.connect(lambda: ticks.append(time.monotonic()))
    clock.start()
    begun = time.monotonic()

    def ask():
        return (yield Request("GET", path, silence=20.0))

    pump.start(Task(ask(), transport, got.append, got.append))
    while not got:
        double.app.processEvents()
        sleep(HOLD_US)
    clock.stop()
    seconds = time.monotonic() - begun
    return SimpleNamespace(seconds=seconds, ticks=len(ticks), answer=got[0])


def test_the_lock_is_really_held() -> None:
    """The control of the tests below: another thread gets its turn in the one sleep and none in the other."""
    turns, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        counted = []
        for sleep in (lock_holding_sleep, polite_sleep):
            before = turns[0]
            sleep(100_000)
            counted.append(turns[0] - before)
    finally:
        stop.set()
        thread.join()
    assert counted[0] < 0.5 * counted[1]


def test_twenty_ticks_a_second_while_the_loop_holds_the_lock(slicer_double, far_server) -> None:
    done = drive(slicer_double, far_server, "/slow?seconds=3", lock_holding_sleep)
    assert done.answer.json() == {"ok": True}
    assert done.ticks / done.seconds >= 20, f"{done.ticks} ticks in {done.seconds:.1f} s"
    print(f"{done.ticks / done.seconds:.0f} ticks a second")


@pytest.mark.parametrize("seconds", [0.0, 0.6])
def test_a_large_answer_is_not_slowed_by_a_held_lock(slicer_double, far_server, seconds: float) -> None:
    """4 MB at once and over a slow line: the best of several, in turn, because other programs run too."""
    path = f"/big?bytes=4000000&seconds={seconds}"
    times: list[list[float]] = [[], []]
    for _ in range(5 if seconds == 0 else 3):
        for sleep, taken in zip((polite_sleep, lock_holding_sleep), times, strict=True):
            done = drive(slicer_double, far_server, path, sleep)
            assert len(done.answer.body) == 4_000_000
            taken.append(done.seconds)
    normal, held = (min(taken) for taken in times)
    print(f"4 MB: {normal * 1000:.0f} ms normally, {held * 1000:.0f} ms with the lock held")
    assert held <= 1.5 * normal


def test_a_stopped_pump_reports_every_task_once(slicer_double, far_server) -> None:
    from DiNODiffusionLib.net.pump import Pump

    pump, reports = Pump(), []
    for _ in range(3):
        pump.start(Task(client.describe(), far_server, reports.append, reports.append))
    pump.stop()
    assert len(reports) == 3 and all(isinstance(report, Cancelled) for report in reports)
    assert pump.tasks == []


def test_a_callback_may_run_its_own_event_loop(slicer_double, server) -> None:
    """A dialog opened by a callback ticks on; tasks neither run twice nor stall."""
    from DiNODiffusionLib.net.pump import Pump

    pump, order = Pump(), []

    def dialog(_: object) -> None:
        order.append("open")
        for _ in range(5):
            slicer_double.app.processEvents()
            time.sleep(0.005)
        order.append("closed")

    transport = Transport(Address.parse(server.url), "correct-token")
    pump.start(Task(client.worklist(), transport, dialog, order.append))
    while pump.tasks:
        slicer_double.app.processEvents()
    assert order == ["open", "closed"]
