"""Set-up: which build of PyTorch goes onto which machine, and which Python is taken."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LINUX = {
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "sys_platform": "linux",
    "python_version": "3.11",
    "python_full_version": "3.11.7",
}
MAC = {**LINUX, "platform_system": "Darwin", "platform_machine": "arm64", "sys_platform": "darwin"}
CUDA_NEEDS = [
    "filelock",
    'nvidia-cudnn-cu13==9.20.0; platform_system == "Linux"',
    'cuda-toolkit[cublas]==13.0.2; platform_system == "Linux" and platform_machine == "x86_64"',
    'triton==3.7.0; platform_system == "Linux"',
    'optree>=0.13.0; extra == "optree"',
]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "install_torch", REPOSITORY / "scripts" / "install_torch.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = _load()
CPU = script.Build(script.VERSION + "+cpu", ())
GPU = script.Build(script.VERSION, ("nvidia-cudnn-cu13==9.20.0",))
PLAIN, LOCAL_CPU, CPU_INDEX = script.CPU_SOURCES
CUDA_INDEX = script.GPU_SOURCES[-1]


def offers(**builds: object) -> Callable[[object], object]:
    """A world of package sources: what each offers; nothing where it is not named."""
    known = {PLAIN: "plain", LOCAL_CPU: "local", CPU_INDEX: "cpu_index", CUDA_INDEX: "cuda_index"}
    return lambda source: builds.get(known[source])


def nothing_is_asked(source: object) -> None:
    raise AssertionError(f"{source} was asked")


def report(version: str, requires: list[str], environment: dict[str, str]) -> dict[str, object]:
    """What `pip install --report` writes, as far as it is read."""
    item = {"metadata": {"name": "torch", "version": version, "requires_dist": requires}}
    return {"version": "1", "install": [item], "environment": environment}


def test_configured_sources_come_first_when_they_offer_a_cpu_build() -> None:
    decided = script.plan("auto", None, None, offers(plain=CPU, local=CPU, cpu_index=CPU))
    assert decided.source == PLAIN
    assert "CPU build" in decided.sentence and "no NVIDIA GPU was found" in decided.sentence


def test_a_cuda_build_is_passed_over_on_a_cpu_machine() -> None:
    assert script.plan("auto", None, None, offers(plain=GPU, local=CPU, cpu_index=CPU)).source == LOCAL_CPU
    decided = script.plan("auto", None, None, offers(plain=GPU, cpu_index=CPU))
    assert decided.source == CPU_INDEX
    assert "https://download.pytorch.org/whl/cpu" in decided.sentence


def test_cuda_is_never_installed_for_want_of_a_cpu_build() -> None:
    with pytest.raises(script.NoBuildError, match="TORCH=cuda"):
        script.plan("auto", None, None, offers(plain=GPU, cuda_index=GPU))


def test_a_gpu_gets_the_gpu_build_and_the_size_is_said() -> None:
    decided = script.plan("auto", "NVIDIA H200", None, offers(plain=GPU, cpu_index=CPU))
    assert decided.source == PLAIN
    assert "NVIDIA H200" in decided.sentence and "GB" in decided.sentence


def test_the_gpu_build_comes_from_pytorch_where_the_configured_sources_have_the_cpu_one() -> None:
    assert script.plan("cuda", None, None, offers(plain=CPU, cuda_index=GPU)).source == CUDA_INDEX


def test_a_gpu_that_nobody_asked_for_is_no_reason_to_fail() -> None:
    decided = script.plan("auto", "NVIDIA H200", None, offers(plain=CPU))
    assert decided.source == PLAIN and "although NVIDIA H200 was found" in decided.sentence
    with pytest.raises(script.NoBuildError, match="TORCH=cpu"):
        script.plan("cuda", "NVIDIA H200", None, offers(plain=CPU))


def test_asking_for_the_cpu_build_overrides_the_gpu() -> None:
    assert script.plan("cpu", "NVIDIA H200", None, offers(plain=GPU, local=CPU)).source == LOCAL_CPU


@pytest.mark.parametrize(("wanted", "installed"), [("auto", CPU), ("auto", GPU), ("cpu", CPU), ("cuda", GPU)])
def test_a_fitting_build_stays_without_asking_anyone(wanted: str, installed: object) -> None:
    decided = script.plan(wanted, None, installed, nothing_is_asked)
    assert decided.source is None and "already installed" in decided.sentence


def test_a_build_of_the_other_kind_or_version_is_replaced() -> None:
    assert script.plan("cpu", None, GPU, offers(plain=CPU)).source == PLAIN
    assert script.plan("cuda", None, CPU, offers(plain=GPU)).source == PLAIN
    assert script.plan("auto", None, script.Build("2.11.0+cpu", ()), offers(plain=CPU)).source == PLAIN


def test_a_report_tells_the_builds_apart() -> None:
    plain = script.parse_report(report("2.13.0", CUDA_NEEDS, LINUX))
    assert plain.for_gpu and len(plain.cuda_packages) == 3
    assert not script.parse_report(report("2.13.0", CUDA_NEEDS, MAC)).for_gpu
    assert not script.parse_report(report("2.13.0+cpu", ["filelock"], LINUX)).for_gpu
    assert script.parse_report(report("2.13.0+cu130", ["filelock"], LINUX)).for_gpu
    assert script.parse_report({"install": [], "environment": LINUX}) is None


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("", True),
        ('platform_system == "Linux"', True),
        ("platform_system != 'Linux'", False),
        ('platform_system == "Windows" or (sys_platform == "linux" and platform_machine == "x86_64")', True),
        ('python_version < "3.9"', False),
        ('python_version >= "3.10" and python_full_version < "3.14"', True),
        ('platform_machine in "aarch64 arm64"', False),
        ('extra == "optree"', False),
        ('implementation_version ~= "3.1"', True),
        ("import os", True),
        ('__import__("os").name == "posix"', True),
    ],
)
def test_markers(marker: str, holds: bool) -> None:
    """What cannot be understood counts as true: rather pass over a build than bring CUDA."""
    assert script.marker_holds(marker, LINUX) is holds


@pytest.mark.parametrize(
    ("line", "megabytes"),
    [
        ("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (888.1 MB)", 888.1),
        ("  Downloading https://example.org/torch-2.13.0-cp311-none-any.whl (1.2 GB)", 1200.0),
        ("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (29 kB)", 0.0),
        ("Collecting torch==2.13.0", 0.0),
    ],
)
def test_a_wheel_that_pip_starts_to_download_is_seen(line: str, megabytes: float) -> None:
    assert script.wheel_megabytes(line) == megabytes


def test_the_pins_agree() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == script.VERSION
    assert project["requires-python"] == ">=3.11,<3.13"
    assert pins["pydicom"].startswith("2.4.") and pins["highdicom"].startswith("0.22.")
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in project["dependencies"]]
    assert not {"monailabel", "torchvision", "itk"} & set(names)
    assert {name.replace("_", "-") for name in names} <= {name.replace("_", "-") for name in pins}
    assert not [name for name in pins if name.startswith(("nvidia", "cuda"))]


def test_the_server_brings_only_what_it_imports() -> None:
    """MONAI Label's own requirements would bring torchvision, sam2, all of ITK, numpy 1 and pydicom 3."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.lower().partition("==")[0].replace("_", "-") for line in lines if "==" in line}
    names = {
        re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-")
        for line in project["optional-dependencies"]["server"]
    }
    assert names <= pins
    assert not {"monailabel", "pydicom-seg", "torchvision", "sam2", "itk"} & names
    assert not {"torchvision", "sam2", "itk"} & pins
    assert {"monailabel==0.8.5", "pydicom-seg==0.4.1"} <= set(lines)
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert "--no-deps monailabel pydicom-seg" in makefile


def _find_python(folder: Path, versions: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs find_python.sh on a machine whose only Pythons are stand-ins that report these versions."""
    for name, version in versions.items():
        stand_in = folder / name
        fits = version in ("3.11", "3.12")
        stand_in.write_text(f"#!/bin/sh\nexit {0 if fits else 1}\n", encoding="utf-8")
        stand_in.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        ["/bin/sh", str(REPOSITORY / "scripts" / "find_python.sh")],
        env={**environment, "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        ({"python3.11": "3.11", "python3.12": "3.12"}, "python3.11"),
        ({"python3.11": "broken launcher", "python3.12": "3.12"}, "python3.12"),
        ({"python3": "3.12"}, "python3"),
    ],
)
def test_the_first_python_that_runs_and_fits_is_taken(
    tmp_path: Path, versions: dict[str, str], taken: str
) -> None:
    assert _find_python(tmp_path, versions).stdout.strip() == str(tmp_path / taken)


def test_without_a_fitting_python_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    done = _find_python(tmp_path, {"python3": "3.9"})
    assert done.returncode == 1 and done.stdout == ""
    assert "python3.11" in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_build_of_torch_stops_make_with_a_sentence() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help", "TORCH=tpu"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "use TORCH=cpu or TORCH=cuda" in done.stderr
