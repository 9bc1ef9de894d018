"""A run killed at any moment, also while it writes, goes on from a whole checkpoint."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from dino_diffusion.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint

TOY = Path(__file__).with_name("toy.py")
EVERY = 2


def train_until_killed(folder: Path, more_steps: int, delay: float) -> None:
    """Starts the toy run and kills it `delay` seconds after it has written `more_steps` further steps."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen([sys.executable, str(TOY), str(folder), str(EVERY)], env=environment)
    log = folder / "log.jsonl"
    before = len(log.read_text().splitlines()) if log.exists() else 0
    try:
        while (len(log.read_text().splitlines()) if log.exists() else 0) < before + more_steps:
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.002)
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_kill_loses_at_most_one_checkpoint_interval(tmp_path: Path) -> None:
    done = 0
    chance = random.Random()
    for _ in range(2):
        train_until_killed(tmp_path, 3, chance.uniform(0, 0.03))
        lines = [
            json.loads(line)
            for line in (tmp_path / "log.jsonl").read_text().splitlines()
            if line.endswith("}")
        ]
        state = load_checkpoint(tmp_path, torch.device("cpu"))
        assert state is not None and state["step"] % EVERY == 0
        assert state["step"] >= max(line["step"] for line in lines) - EVERY
        assert state["step"] > done
        done = state["step"]


def test_a_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 2})
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / f"{CHECKPOINT}.partial").write_bytes(whole[: len(whole) // 2])
    assert load_checkpoint(tmp_path, torch.device("cpu")) == {"step": 2}
