"""Many files in several processes: the same results, and what is left when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_diffusion.cli.segment_desk import Desk, File, Shown, named
from dino_diffusion.cli.segment_job import Job
from dino_diffusion.cli.segment_lanes import Processes, Threads
from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.view import ModelView
from tests.core.cli.conftest import FoundHalves

SIZE = 32


def find(files: list[File], views: list[ModelView]) -> list[FoundHalves]:
    return [FoundHalves() for _ in views]


def process_of(desk: Desk, file: File) -> int:
    """Not a method of Desk, but any function with a desk will do."""
    return os.getpid()


def die(desk: Desk, file: File) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def files(radiographs: Path) -> list[File]:
    return named(sorted(radiographs.iterdir()))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(SIZE, tmp_path / "out")


def test_processes_read_and_write_what_threads_do(desk: Desk, files: list[File], tmp_path: Path) -> None:
    read: list[list[Shown]] = []
    written: list[list[bytes]] = []
    for lanes in (Threads(desk, 2), Processes(desk, 2)):
        with lanes:
            read.append([lanes.submit(Desk.read, file).result() for file in files])
            entries = [outcome for _, outcome in Job(lanes, find, 3).labelled(files)]
        assert not any(isinstance(entry, DinoDiffusionError) for entry in entries)
        written.append([(tmp_path / "out" / f"{file.name}.png").read_bytes() for file in files])
    assert written[0] == written[1]
    for here, there in zip(*read, strict=True):
        assert np.array_equal(here[0], there[0]) and here[1:] == there[1:]


def test_a_file_stays_with_its_process_and_files_take_turns(desk: Desk, files: list[File]) -> None:
    with Processes(desk, 2) as lanes:
        first, again = ([lanes.submit(process_of, file).result() for file in files] for _ in range(2))
    assert first == again
    assert first[0] == first[2] != first[1]
    assert os.getpid() not in first


def test_an_error_of_a_file_comes_back_as_its_sentence(desk: Desk, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    with Processes(desk, 1) as lanes, pytest.raises(DinoDiffusionError, match=r"bad\.png"):
        lanes.submit(Desk.read, named([bad])[0]).result()


def test_files_that_the_models_refuse_are_told_and_not_kept(desk: Desk, files: list[File]) -> None:
    def refuse(files: list[File], views: list[ModelView]) -> list[FoundHalves]:
        raise RuntimeError("out of memory")

    with Threads(desk, 2) as lanes:
        outcomes = [outcome for _, outcome in Job(lanes, refuse, 2).labelled(files)]
    assert all("out of memory" in str(outcome) for outcome in outcomes)
    assert not desk.pictures


def test_what_a_killed_process_had_read_another_reads_again(
    desk: Desk, files: list[File], tmp_path: Path
) -> None:
    with Processes(desk, 1) as lanes:

        def killing(some: list[File], views: list[ModelView]) -> list[FoundHalves]:
            """As the system kills for want of memory."""
            if some == files[:1]:
                with pytest.raises(BrokenExecutor):
                    lanes.submit(die, files[0]).result()
                lanes.submit(Desk.negative, files[0]).result()
            return find(some, views)

        outcomes = [outcome for _, outcome in Job(lanes, killing).labelled(files)]
    assert not any(isinstance(outcome, DinoDiffusionError) for outcome in outcomes)
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"a", "b", "c"}


def test_a_process_killed_while_it_reads_costs_that_file_a_sentence(desk: Desk, tmp_path: Path) -> None:
    """A named pipe keeps its reader waiting."""
    waiting, other = tmp_path / "waiting.png", tmp_path / "other.png"
    os.mkfifo(waiting)
    Image.fromarray(np.arange(2000, dtype=np.uint8).reshape(40, 50)).save(other)
    files = named((waiting, other))
    with Processes(desk, 2) as lanes:
        doomed = lanes.submit(process_of, files[0]).result()
        killer = subprocess.Popen([sys.executable, "-c", f"import os,time;time.sleep(1);os.kill({doomed},9)"])
        outcomes = dict(Job(lanes, find, 2).labelled(files))
        killer.wait()
    assert isinstance(outcomes[files[0]], DinoDiffusionError)
    assert "killed" in str(outcomes[files[0]]) and str(waiting) in str(outcomes[files[0]])
    assert not isinstance(outcomes[files[1]], DinoDiffusionError)


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux whether a process runs")
def test_processes_do_not_outlive_a_killed_command(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from dino_diffusion.cli.segment_desk import Desk, File
from dino_diffusion.cli.segment_lanes import Processes
from tests.core.cli.test_segment_lanes import process_of
if __name__ == "__main__":
    file = File(Path("a"), "a", "b")
    lanes = Processes(Desk({SIZE}, Path({str(tmp_path)!r})), 1)
    print(lanes.submit(process_of, file).result(), flush=True)
    time.sleep(60)
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert runs(child)
        parent.kill()
    for _ in range(600):
        if not runs(child):
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} still runs a minute after the command was killed")


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # dead, and no one has asked how it ended
