import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = "accelerate.commands.launch"


@pytest.mark.slow
def test_two_processes_see_each_image_once_and_end_with_the_same_weights(
    tmp_path: Path, pictures: Path
) -> None:
    script = Path(__file__).with_name("two_processes.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [
        sys.executable,
        "-m",
        LAUNCH,
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--cpu",
        "--main_process_port",
        "0",
    ]
    command += [
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        str(script),
        str(tmp_path),
        str(pictures),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["processes"] == second["processes"] == 2
    assert sorted(first["seen"] + second["seen"]) == list(range(10))
    assert first["weights"] == second["weights"]
    assert (tmp_path / "run" / "weights" / "config.json").exists()
