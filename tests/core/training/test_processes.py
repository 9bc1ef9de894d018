import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_processes_see_each_image_once_and_end_with_the_same_weights(
    tmp_path: Path, pictures: Path
) -> None:
    script = Path(__file__).with_name("two_processes.py")
    # `launch --cpu` alone would need MPI for two processes; with --multi_gpu it starts them by torch's own
    # launcher, and this variable keeps both on the CPU (gloo).
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    options = "--multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0 --mixed_precision no"
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split(), "--dynamo_backend", "no"]
    command += [str(script), str(tmp_path), str(pictures)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["processes"] == second["processes"] == 2
    assert sorted(first["seen"] + second["seen"]) == list(range(10))
    assert first["weights"] == second["weights"]
    assert (tmp_path / "run" / "weights" / "config.json").exists()
