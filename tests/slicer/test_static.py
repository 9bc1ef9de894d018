"""What can be said of the extension without running it: its syntax, its imports, its packaging, its names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slicer import doubles
from tests.slicer.places import EXTENSION, REPOSITORY

SOURCES = sorted(EXTENSION.rglob("*.py"))
MODULES = ("DiNODiffusion", "SegmentEditorLungLobes", "SegmentEditorDiffusionInpaint")
ALLOWED = {"numpy", "SimpleITK", "vtk", "qt", "ctk", "slicer", "SampleData", "SegmentEditorEffects",
           "qSlicerSegmentationsEditorEffectsPythonQt"}  # fmt: skip
NO_SLICER = ("net", "codec")
"""Folders of the library that know neither Qt nor MRML, but for the timer."""

CONTRACT = Path(__file__).with_name("slicer_names.txt")


def test_there_are_sources() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_python_3_9_reads_every_file(path: Path) -> None:
    """Slicer 5.8 brings Python 3.9; annotations are not evaluated and may be newer."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_nothing_newer_than_python_3_9_is_called() -> None:
    vermin = Path(sys.executable).with_name("vermin")
    options = ["--target=3.9-", "--no-eval-annotations", "--violations"]
    done = subprocess.run(
        [str(vermin), *options, str(EXTENSION)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def test_only_what_slicer_brings_is_imported() -> None:
    for path in SOURCES:
        foreign = set(imports(path)) - sys.stdlib_module_names - ALLOWED - {"DiNODiffusionLib"}
        assert not foreign, f"{path.name} imports {foreign}"


def test_the_client_knows_neither_qt_nor_mrml() -> None:
    for folder in NO_SLICER:
        for path in (EXTENSION / "DiNODiffusion" / "DiNODiffusionLib" / folder).glob("*.py"):
            found = set(imports(path)) & {"slicer", "qt", "ctk", "vtk"}
            assert found <= ({"qt"} if path.name == "pump.py" else set()), f"{path.name} imports {found}"


def test_only_the_look_up_of_names_uses_a_thread() -> None:
    """So no call of Qt or MRML can come from another thread than the main one."""
    threaded = {"threading", "_thread", "concurrent", "asyncio"}
    using = [path.name for path in SOURCES if set(imports(path)) & threaded]
    assert using == ["connection.py"]
    assert not any("QThread" in path.read_text(encoding="utf-8") for path in SOURCES)


def test_nothing_is_run_or_unpickled() -> None:
    for path in SOURCES:
        used = set(imports(path))
        assert not used & {"pickle", "marshal", "shelve", "subprocess", "multiprocessing", "cgi"}, path.name
        assert not re.search(r"\b(eval|exec|__import__)\(", path.read_text(encoding="utf-8")), path.name


# Packaging


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as CMake installs it, in Slicer's folder layout."""
    build, root = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("root")
    fake = Path(__file__).with_name("fake_slicer")
    cmake = Path(sys.executable).with_name("cmake")
    for command in (
        [cmake, "-S", EXTENSION, "-B", build, f"-DSlicer_DIR={fake}"],
        [cmake, "--install", build, "--prefix", root],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return root / "lib" / "Slicer-5.8" / "qt-scripted-modules"


def test_the_installed_extension_is_whole_and_imports(installed: Path) -> None:
    """In a fresh process: every module, from the installed files alone."""
    own = {path.relative_to(EXTENSION / module) for module in MODULES
           for path in (EXTENSION / module).rglob("*.py")}  # fmt: skip
    assert {path.relative_to(installed) for path in installed.rglob("*.py")} == own
    code = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.slicer import doubles
doubles.start()
sys.path.insert(0, {str(installed)!r})
import importlib, pkgutil, pathlib
import DiNODiffusionLib
assert pathlib.Path(DiNODiffusionLib.__file__).is_relative_to({str(installed)!r})
for found in pkgutil.walk_packages(DiNODiffusionLib.__path__, "DiNODiffusionLib."):
    importlib.import_module(found.name)
from tests.slicer.doubles.scripted import load_module, make_widget
for name in {MODULES!r}:
    loaded = load_module(pathlib.Path({str(installed)!r}) / (name + ".py"))
    if name == "DiNODiffusion":
        assert len(make_widget(loaded).panels) == 6
    else:
        loaded.module.register()
import slicer
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect as base
assert sorted(effect.name for effect in base.registered) == ["Diffusion inpaint", "Lung lobes"]
assert all(not effect.icon().isNull() and effect.self().helpText() for effect in base.registered)
print("whole")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=installed
    )
    assert "whole" in done.stdout, done.stderr[-3000:]


def test_sample_radiographs_are_installed_and_registered(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    doubles.start()
    from DiNODiffusionLib.samples import register

    registered: list[dict] = []
    fake = types.ModuleType("SampleData")
    fake.SampleDataLogic = types.SimpleNamespace(
        registerCustomSampleDataSource=lambda **source: registered.append(source)
    )
    monkeypatch.setitem(sys.modules, "SampleData", fake)
    register(installed)
    assert [source["sampleName"] for source in registered] == [f"SyntheticChest{n}" for n in (1, 2, 3)]
    for source in registered:
        assert source["uris"].startswith("file://") and source["checksums"].startswith("SHA256:")
        assert Path(source["thumbnailFileName"]).is_file()


def test_the_catalogue_entry() -> None:
    """The rules of Slicer's extension catalogue."""
    entry = json.loads((EXTENSION / "DiNODiffusion.json").read_text())
    project = re.search(r"project\((\w+)\)", (EXTENSION / "CMakeLists.txt").read_text())
    assert project and project[1] == "DiNODiffusion" and not project[1].startswith("Slicer")
    assert entry["$schema"].startswith("https://raw.githubusercontent.com/Slicer/Slicer/")
    assert entry["category"] == "Segmentation" and entry["scm_url"].endswith(f"/Slicer{project[1]}.git")
    allowed = {
        "$schema",
        "build_dependencies",
        "build_subdirectory",
        "category",
        "scm_revision",
        "scm_url",
        "tier",
    }
    assert set(entry) == allowed


@pytest.mark.parametrize("path", sorted(EXTENSION.rglob("*.ui")), ids=lambda path: path.name)
def test_every_ui_file_loads_and_every_name_that_is_used_is_in_it(path: Path) -> None:
    doubles.start()
    import slicer

    widget = slicer.util.loadUI(str(path))
    names = set(vars(slicer.util.childWidgetVariables(widget)))
    panel = EXTENSION / "DiNODiffusion" / "DiNODiffusionLib" / "panels" / f"{path.stem.lower()}_panel.py"
    used = set(re.findall(r"self\.ui\.(\w+)", panel.read_text()))
    assert used and used <= names, used - names


# The names of Slicer, Qt and CTK that are used


OBJECTS = {
    "editor": "slicer.qMRMLSegmentEditorWidget",
    "scriptedEffect": "slicer.qSlicerSegmentEditorScriptedEffect",
}
"""Variables that hold an object of Slicer wherever they are named so."""


def names_used() -> set[str]:
    """Every dotted name below slicer, qt, ctk and vtk in the sources, and what is asked of OBJECTS."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                holder = (
                    node.value.attr
                    if isinstance(node.value, ast.Attribute)
                    else getattr(node.value, "id", "")
                )
                if holder in OBJECTS:
                    found.add(f"{OBJECTS[holder]}.{node.attr}")
                parts = [node.attr]
                inner = node.value
                while isinstance(inner, ast.Attribute):
                    parts.append(inner.attr)
                    inner = inner.value
                if isinstance(inner, ast.Name) and inner.id in ("slicer", "qt", "ctk", "vtk"):
                    found.add(".".join([inner.id, *reversed(parts)]))
    return {name for name in found if not any(other.startswith(name + ".") for other in found)}


def test_the_list_of_names_is_the_one_that_was_checked_against_slicer() -> None:
    """A new name is looked up in Slicer's sources before it enters the list: a double proves nothing."""
    listed = {line.split("#")[0].strip() for line in CONTRACT.read_text().splitlines()} - {""}
    used = names_used()
    assert used - listed == set(), "look these up in Slicer's sources, then add them to slicer_names.txt"
    assert listed - used == set(), "these are used no more: take them out of slicer_names.txt"


def test_mrml_names_exist_in_the_real_library() -> None:
    doubles.start()
    import slicer
    import vtk

    without = set(OBJECTS.values())
    for name in names_used():
        if name.rpartition(".")[0] in without:
            continue
        root, *parts = name.split(".")
        if root in ("slicer", "vtk") and parts[0] not in ("app", "modules"):
            value: object = {"slicer": slicer, "vtk": vtk}[root]
            for part in parts:
                assert hasattr(value, part), f"{name}: there is no {part}"
                value = getattr(value, part)
