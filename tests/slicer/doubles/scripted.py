"""`slicer.ScriptedLoadableModule`: the base classes of a scripted module, as thin as they can be."""

from __future__ import annotations

import importlib.util
import sys
import types
import unittest
from pathlib import Path

import slicer
from PySide6 import QtWidgets


class ScriptedLoadableModule:
    def __init__(self, parent: object) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__

    def getDefaultModuleDocumentationLink(self) -> str:
        return ""


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: QtWidgets.QWidget) -> None:
        self.parent = parent
        self.layout = parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False

    def setup(self) -> None:
        pass

    def resourcePath(self, filename: str) -> str:
        return str(
            Path(getattr(slicer.modules, self.moduleName.lower()).path).parent / "Resources" / filename
        )


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: object = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> object:
        for index in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode")):
            node = slicer.mrmlScene.GetNthNodeByClass(index, "vtkMRMLScriptedModuleNode")
            if node.GetAttribute("ModuleName") == self.moduleName:
                return node
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(self.moduleName)
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, *_: object) -> None:
        slicer.app.processEvents()


def install() -> None:
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    for cls in (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic,
                ScriptedLoadableModuleTest):  # fmt: skip
        setattr(module, cls.__name__, cls)
    module.__all__ = [name for name in vars(module) if name.startswith("Scripted")]
    sys.modules[module.__name__] = module
    slicer.ScriptedLoadableModule = module


def load_module(path: Path) -> types.SimpleNamespace:
    """What the application does with a scripted module's file: the module object, and later its widget."""
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent = types.SimpleNamespace(
        path=str(path), title="", categories=[], dependencies=[], contributors=[], helpText="",
        acknowledgementText="", icon=None, hidden=False, widgetRepresentationCreationEnabled=True,
    )  # fmt: skip
    made = getattr(module, name)(parent)
    setattr(slicer.modules, name.lower(), types.SimpleNamespace(path=str(path), name=name))
    return types.SimpleNamespace(python=module, module=made, parent=parent)


def make_widget(loaded: types.SimpleNamespace) -> object:
    """The module's widget, set up in a panel of its own."""
    name = type(loaded.module).__name__
    panel = slicer.qSlicerWidget()
    QtWidgets.QVBoxLayout(panel)
    panel.setMRMLScene(slicer.mrmlScene)
    widget = getattr(loaded.python, name + "Widget")(panel)
    setattr(slicer.modules, name + "Widget", widget)
    widget.setup()
    return widget
