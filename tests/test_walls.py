"""The walls of the house: who may import whom, and what may never be committed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

REPOSITORY = Path(__file__).resolve().parent.parent
CORE, APP, EXTENSION = (REPOSITORY / name for name in ("core", "monailabel_app", "slicer_extension"))

SLICER_ALLOWS = set(sys.stdlib_module_names) | {"numpy", "SimpleITK", "vtk", "qt", "ctk", "slicer"}
# Modules of Slicer itself: the base of scripted effects, their C++ side, and the sample data.
SLICER_ALLOWS |= {"SegmentEditorEffects", "qSlicerSegmentationsEditorEffectsPythonQt", "SampleData"}
CORE_FORBIDS = {"monailabel", "monailabel_app", "slicer", "slicer_extension", "fastapi", "torchvision", "itk"}
GPU_MACHINE_LACKS = ("SimpleITK", "pydicom", "nibabel", "highdicom")

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".bin"}
RADIOGRAPHS = (
    ".dcm",
    ".nii",
    ".nii.gz",
    ".nrrd",
    ".mha",
    ".mhd",
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".tif",
    ".tiff",
)
PICTURE_FOLDERS = ("core/dino_diffusion/samples/", "core/dino_diffusion/bundles/", "docs/")
ICONS = re.compile(r"slicer_extension/([\w/]+/Resources/Icons/)?\w+\.png")
DATA_SET_NAMES = re.compile(
    r"(?i)^(CHNCXR_|MCUCXR_|JPC[LN]N\d|COVID-\d|Normal-\d|tb\d{4}|patient_?\d|person\d+_|p1\d{7}|s5\d{7}"
    r"|IM-\d{4}|\d{8}_\d{3}\.|\d+(\.\d+){6,})"
)


def imported(source: str) -> set[str]:
    """Top-level names of every absolute import in a file, wherever in the file it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def imports_below(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(REPOSITORY), imported(path.read_text(encoding="utf-8"))


def own_names(folder: Path) -> set[str]:
    """What a folder's files call each other."""
    return {path.stem for path in folder.rglob("*.py")} | {
        path.name for path in folder.rglob("*") if path.is_dir()
    }


def in_fresh_python(code: str) -> subprocess.CompletedProcess[str]:
    """Of this checkout, whatever else is installed."""
    environment = {**os.environ, "PYTHONPATH": str(CORE)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "line", ["import torch.nn", "from torch import nn", "def f():\n    import torch as t"]
)
def test_an_import_is_found_wherever_it_stands(line: str) -> None:
    assert imported(line) == {"torch"}


def test_relative_imports_stay_inside_and_do_not_count() -> None:
    assert imported("from . import torch\nfrom .slicer import x") == set()


def test_slicer_extension_imports_only_what_slicer_brings() -> None:
    own = own_names(EXTENSION)
    for path, names in imports_below(EXTENSION):
        assert names - own <= SLICER_ALLOWS, f"{path} imports {names - own - SLICER_ALLOWS}"


def test_core_knows_neither_server_nor_slicer() -> None:
    files = list(imports_below(CORE))
    assert files
    for path, names in files:
        assert not names & CORE_FORBIDS, f"{path} imports {names & CORE_FORBIDS}"


def test_the_app_reaches_down_and_never_up() -> None:
    for path, names in imports_below(APP):
        assert not names & {"slicer", "slicer_extension", "qt", "ctk"}, path


def test_importing_the_package_is_light() -> None:
    code = "import sys, dino_diffusion; print(sorted({'torch', 'numpy', 'pydicom'} & set(sys.modules)))"
    done = in_fresh_python(code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_models_and_training_import_without_the_medical_readers() -> None:
    """They also run on a GPU machine that has little more than torch, transformers and diffusers."""
    code = f"""
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {GPU_MACHINE_LACKS!r}:
            raise ModuleNotFoundError(f"{{name}} is behind the wall", name=name)

sys.meta_path.insert(0, Wall())
for name in ("view", "device", "attention", "sampling", "models", "training"):
    module = importlib.import_module(f"dino_diffusion.{{name}}")
    print(module.__name__)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
        importlib.import_module(found.name)
        print(found.name)
"""
    done = in_fresh_python(code)
    assert done.returncode == 0, done.stderr
    assert {"dino_diffusion.models.bundle", "dino_diffusion.training.loop"} <= set(done.stdout.split())


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Every file git knows, relative to the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("needs git and a clone: what is tracked cannot be listed here")
    return [Path(name) for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def test_no_pickle_is_tracked(tracked: list[Path]) -> None:
    for path in tracked:
        assert path.suffix.lower() not in PICKLES, f"{path}: weights are safetensors only"
        file = REPOSITORY / path
        start = file.open("rb").read(2)
        if path.suffix == ".safetensors":
            # Its first bytes are the length of its header, which may look like a pickle's: read it instead.
            with safe_open(file, framework="np") as weights:
                assert list(weights.keys()), f"{path} holds no weights"
            continue
        assert not (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), (
            f"{path} is a pickle"
        )
        if start == b"PK" and zipfile.is_zipfile(file):
            assert not [n for n in zipfile.ZipFile(file).namelist() if n.endswith(".pkl")], (
                f"{path} holds a pickle"
            )


def test_no_radiograph_from_a_data_set_is_tracked(tracked: list[Path]) -> None:
    for path in tracked:
        assert not DATA_SET_NAMES.match(path.name), f"{path} is named like a data set's image"
        if path.name.lower().endswith(RADIOGRAPHS):
            allowed = path.as_posix().startswith(PICTURE_FOLDERS) or ICONS.fullmatch(path.as_posix())
            assert allowed, f"{path}: pictures live in {PICTURE_FOLDERS}"


@pytest.mark.parametrize(
    "name",
    ["CHNCXR_0001_0.png", "MCUCXR_0104_1.png", "00000013_005.png", "COVID-12.png", "patient64541_view1.jpg"],
)
def test_names_of_public_data_sets_are_recognised(name: str) -> None:
    assert DATA_SET_NAMES.match(name)


def test_files_stay_small(tracked: list[Path]) -> None:
    sizes = {path: (REPOSITORY / path).stat().st_size for path in tracked}
    for path, size in sizes.items():
        assert size <= 15e6, f"{path} has {size / 1e6:.1f} MB"
    weights = sum(size for path, size in sizes.items() if path.suffix == ".safetensors")
    assert weights <= 60e6, f"the weights have {weights / 1e6:.1f} MB together"
