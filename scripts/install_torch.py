"""Installs PyTorch so that a machine without a GPU never receives CUDA packages.

A plain `pip install torch` on Linux brings gigabytes of CUDA libraries, which a CPU cannot use. This script
asks pip what each package source would install, takes the first source whose build fits the machine, and says
in one line what it does and why. Standard library only: it runs before anything else is installed.

    python scripts/install_torch.py [auto|cpu|cuda] [--explain]
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "2.13.0"
PYTORCH_INDEX = "https://download.pytorch.org/whl/"
CPU_WHEEL_MB = 400
"""The largest CPU wheel of torch is about half of this, the smallest CUDA wheel more than this."""

CUDA_NAMES = re.compile(r"^(nvidia-|cuda-|pytorch-triton|triton\b)")


@dataclass(frozen=True)
class Source:
    """Where a build may come from: what pip is asked for, and an index in place of the configured ones."""

    requirement: str
    index: str | None = None

    @property
    def words(self) -> str:
        return f"{self.requirement} from {self.index or 'the configured package sources'}"

    @property
    def arguments(self) -> list[str]:
        return [self.requirement, *(["--index-url", self.index] if self.index else [])]


@dataclass(frozen=True)
class Build:
    """One build of torch: its version and the CUDA packages that it would bring onto this machine."""

    version: str
    cuda_packages: tuple[str, ...]

    @property
    def for_gpu(self) -> bool:
        local = self.version.partition("+")[2]
        return local.startswith("cu") or (local != "cpu" and bool(self.cuda_packages))


@dataclass(frozen=True)
class Plan:
    """`source` None: the installed build stays. `sentence` says what is done and why."""

    source: Source | None
    sentence: str


class NoBuildError(Exception):
    """No package source offers a build that fits; the message says what to do."""


CPU_SOURCES = (
    Source(f"torch=={VERSION}"),
    Source(f"torch=={VERSION}+cpu"),
    Source(f"torch=={VERSION}", PYTORCH_INDEX + "cpu"),
)
GPU_SOURCES = (
    Source(f"torch=={VERSION}"),
    Source(f"torch=={VERSION}", PYTORCH_INDEX + "cu130"),
)


def plan(
    wanted: str, gpu: str | None, installed: Build | None, offer: Callable[[Source], Build | None]
) -> Plan:
    """Decides what to install.

    Args:
        wanted: `cpu`, `cuda`, or `auto` (the GPU build where a GPU is found).
        gpu: name of the GPU found, if any.
        installed: the build already in this environment, if any.
        offer: what a source would install, None where it has nothing that fits this Python.

    Raises:
        NoBuildError: no source has such a build.
    """
    if installed and installed.version.partition("+")[0] == VERSION:
        kind = "GPU" if installed.for_gpu else "CPU"
        if wanted == "auto" or (wanted == "cuda") == installed.for_gpu:
            return Plan(None, f"torch {installed.version} ({kind} build) is already installed.")
    if wanted == "cuda" or (wanted == "auto" and gpu):
        reason = f"{gpu} was found" if gpu else "TORCH=cuda was asked for"
        for source in GPU_SOURCES:
            build = offer(source)
            if build and build.for_gpu:
                return Plan(
                    source,
                    f"Installing the GPU build, {source.words}, because {reason}: a download of "
                    f"2 to 3 GB with its CUDA packages (TORCH=cpu avoids it).",
                )
        if wanted == "cuda":
            raise NoBuildError(
                f"No package source offers a GPU build of torch {VERSION} for this Python and platform; "
                "use TORCH=cpu or install one into .venv by hand."
            )
        reason = f"no package source offers a GPU build, although {gpu} was found"
    else:
        reason = "TORCH=cpu was asked for" if wanted == "cpu" else "no NVIDIA GPU was found"
    for source in CPU_SOURCES:
        build = offer(source)
        if build and not build.for_gpu:
            return Plan(source, f"Installing the CPU build, {source.words}, because {reason}.")
    raise NoBuildError(
        f"No package source offers a CPU build of torch {VERSION} for this Python and platform: check that "
        f"{PYTORCH_INDEX}cpu can be reached, or ask for the GPU build (several GB) with TORCH=cuda."
    )


def build_of(version: str, requires: list[str] | None, environment: Mapping[str, str]) -> Build:
    """The build that metadata (version, `Requires-Dist`) describes, on a platform (PEP 508 environment)."""
    active = []
    for requirement in requires or ():
        name, _, marker = requirement.partition(";")
        if CUDA_NAMES.match(name.strip().lower()) and marker_holds(marker.strip(), environment):
            active.append(name.strip())
    return Build(version, tuple(active))


def marker_holds(marker: str, environment: Mapping[str, str]) -> bool:
    """Evaluates an environment marker (PEP 508), which reads as a Python expression.

    A marker that cannot be understood counts as true: better to pass over a CPU build than to bring CUDA.
    """
    if not marker:
        return True
    try:
        return _holds(ast.parse(marker, mode="eval").body, environment)
    except (SyntaxError, ValueError, KeyError):
        return True


def _holds(node: ast.expr, environment: Mapping[str, str]) -> bool:
    if isinstance(node, ast.BoolOp):
        test = all if isinstance(node.op, ast.And) else any
        return test(_holds(value, environment) for value in node.values)
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        raise ValueError("not a marker")
    sides = (node.left, node.comparators[0])
    left, right = (_value(side, environment) for side in sides)
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    if any(name.endswith("version") for name in names):
        left, right = (tuple(int(part) for part in re.findall(r"\d+", text)) for text in (left, right))
    match node.ops[0]:
        case ast.Eq():
            return left == right
        case ast.NotEq():
            return left != right
        case ast.Lt():
            return left < right
        case ast.LtE():
            return left <= right
        case ast.Gt():
            return left > right
        case ast.GtE():
            return left >= right
        case ast.In():
            return left in right
        case ast.NotIn():
            return left not in right
    raise ValueError("not a marker")


def _value(node: ast.expr, environment: Mapping[str, str]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return "" if node.id == "extra" else environment[node.id]
    raise ValueError("not a marker")


def parse_report(report: Mapping[str, Any]) -> Build | None:
    """The build of torch in a report of `pip install --report`."""
    for item in report["install"]:
        metadata = item["metadata"]
        if metadata["name"].lower() == "torch":
            return build_of(metadata["version"], metadata.get("requires_dist"), report["environment"])
    return None


def wheel_megabytes(line: str) -> float:
    """Size of the torch wheel whose download a line of pip's output announces; 0 for any other line."""
    found = re.search(r"Downloading \S*torch-\S+\.whl \(([\d.]+) (MB|GB)\)", line)
    return float(found[1]) * (1000 if found[2] == "GB" else 1) if found else 0.0


# ---- what touches the machine


def ask_pip(source: Source) -> Build | None:
    """What pip would install. Where a source serves no metadata, pip downloads the wheel to look into it;
    one too large for a CPU build is not waited for, and what came of it goes with the temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed"]
        command += ["--progress-bar", "off", "--report", str(report), *source.arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": folder},
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if wheel_megabytes(line) > CPU_WHEEL_MB:
                process.kill()
                process.wait()
                return Build(VERSION, (f"a wheel of {wheel_megabytes(line):.0f} MB",))
        if process.wait() != 0 or not report.exists():
            return None
        return parse_report(json.loads(report.read_text(encoding="utf-8")))


def installed_build() -> Build | None:
    try:
        distribution = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    environment = {
        "platform_system": platform.system(),
        "platform_machine": platform.machine(),
        "sys_platform": sys.platform,
        "os_name": os.name,
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "python_full_version": platform.python_version(),
        "implementation_name": sys.implementation.name,
        "platform_python_implementation": platform.python_implementation(),
    }
    return build_of(distribution.version, distribution.requires, environment)


def find_gpu() -> str | None:
    """Name of the first GPU that nvidia-smi lists."""
    if not shutil.which("nvidia-smi"):
        return None
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed.stdout, re.MULTILINE)
    return found[1] if listed.returncode == 0 and found else None


def main() -> int:
    parser = argparse.ArgumentParser(description="Install the build of PyTorch that fits this machine.")
    parser.add_argument("build", nargs="?", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--explain", action="store_true", help="say what would be done, and stop")
    arguments = parser.parse_args()
    try:
        decided = plan(arguments.build, find_gpu(), installed_build(), ask_pip)
    except NoBuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(decided.sentence, flush=True)
    if decided.source is None or arguments.explain:
        return 0
    # --no-deps: what this build needs comes with the project's own packages, from the configured sources.
    # --force-reinstall: pip takes an installed 2.13.0+cpu for 2.13.0 when the other build is wanted.
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--force-reinstall"]
    return subprocess.run([*command, *decided.source.arguments]).returncode


if __name__ == "__main__":
    sys.exit(main())
