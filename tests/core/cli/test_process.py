"""What only a real process shows: streams, exit codes, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LAUNCH = "from dino_diffusion.cli import main; main()"


def run(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + LAUNCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_json_is_all_there_is_on_stdout(bundle_folder: Path, tmp_path: Path) -> None:
    done = run("generate", "-n", 1, "--steps", 1, "-o", tmp_path, "--bundle", bundle_folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"]
    assert "Loading weights" not in done.stderr
    assert "Warning" not in done.stderr


def test_threads_are_told_to_sleep_before_torch_is_there(tmp_path: Path) -> None:
    """A radiograph that `--like` names is read, which imports torch, before the bundle is loaded."""
    noting = (
        "import builtins, os\n"
        "honest = builtins.__import__\n"
        "def note(name, *rest, **options):\n"
        "    if name == 'torch':\n"
        "        builtins.__import__ = honest\n"
        "        print(os.environ.get('OMP_WAIT_POLICY'))\n"
        "    return honest(name, *rest, **options)\n"
        "builtins.__import__ = note\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    script = noting + LAUNCH
    command = [sys.executable, "-c", script, "generate", "--like", "missing.png", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.splitlines() == ["passive"]
    assert "missing.png" in done.stderr


def test_even_c_libraries_cannot_disturb_the_json() -> None:
    """A write to the file descriptor itself, as native code does it."""
    script = (
        "import os\n"
        "from dino_diffusion.cli.console import Output\n"
        "with Output(False, True).document() as document:\n"
        "    os.write(1, b'native noise'); print('python noise'); document['fine'] = True\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    document, after = done.stdout.rsplit("}", 1)
    assert json.loads(document + "}") == {"fine": True}
    assert after.strip() == "after"
    assert "native noise" in done.stderr
    assert "python noise" in done.stderr


def test_an_error_is_one_sentence_and_exit_code_one(tmp_path: Path) -> None:
    done = run("evaluate", "segmentation", "--images", tmp_path / "none", "--masks", tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'none'} is not a folder: give the folder that holds the files to compare."
    ]


def test_ctrl_c_is_one_sentence_and_exit_code_130(tmp_path: Path) -> None:
    interrupt = (
        "import dino_diffusion.cli.generate as command\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "command.load_bundle = stop\n"
    )
    done = run("generate", "-o", tmp_path / "out", before=interrupt)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Stopped")
    assert not (tmp_path / "out").exists()


def test_help_does_not_wait_for_torch() -> None:
    """Each command's help too: the imports that take seconds happen inside the commands."""
    script = (
        "import sys\n"
        "from dino_diffusion.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'torch', 'transformers', 'numpy', 'SimpleITK'} & set(sys.modules)))\n"
    )
    for arguments in (["--help"], ["segment", "--help"], ["evaluate", "generation", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.splitlines()[-1] == "0 []"
