"""The scripted Segment Editor effect's C++ side, over the real vtkSlicerSegmentEditorLogic.

Since Slicer 5.11 the Qt class only passes on to that logic, so masks, overwriting and undo are the real ones.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import ClassVar

import slicer
from PySide6 import QtGui, QtWidgets


class qSlicerSegmentEditorAbstractEffect:
    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)


class qSlicerSegmentEditorScriptedEffect:
    """`logic` is set by the test to that of its editor."""

    logic: object = None

    def __init__(self, _parent: object = None) -> None:
        self.name = self.title = ""
        self.perSegment = self.requireSegments = True
        self.showEffectCursorInSliceView = True
        self._frame = QtWidgets.QFrame()
        self._layout = QtWidgets.QFormLayout(self._frame)
        self._active = False
        self._observer = None

    def setPythonSource(self, path: str) -> None:
        """As the C++ side does: the class named like the file, in a module named like the file's folder."""
        file = Path(path)
        name = file.parent.name
        module = sys.modules.get(name)
        if not hasattr(module, file.stem):
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        self._self = getattr(module, file.stem)(self)

    def self(self) -> object:
        return self._self

    def icon(self) -> QtGui.QIcon:
        return self._self.icon()

    def active(self) -> bool:
        return self._active

    def activate(self) -> None:
        if not self._layout.rowCount():
            self._self.setupOptionsFrame()
        self._self.setMRMLDefaults()
        node = self.parameterSetNode()
        node.SetActiveEffectName(self.name)
        self._observer = node.AddObserver(
            slicer.vtkMRMLSegmentEditorNode.EffectParameterModified, lambda *_: self._self.updateGUIFromMRML()
        )
        self._active = True
        self._self.activate()
        self._self.updateGUIFromMRML()

    def deactivate(self) -> None:
        self.parameterSetNode().RemoveObserver(self._observer)
        self._active = False
        self._self.deactivate()

    def parameterSetNode(self) -> object:
        return self.logic.GetSegmentEditorNode()

    def optionsFrame(self) -> QtWidgets.QFrame:
        return self._frame

    def addOptionsWidget(self, widget: object) -> None:
        self._layout.addRow(widget)

    def addLabeledOptionsWidget(self, label: str, widget: object) -> QtWidgets.QLabel:
        made = QtWidgets.QLabel(label)
        self._layout.addRow(made, widget)
        return made

    def _key(self, name: str) -> str:
        return f"{self.name}.{name}"

    def parameter(self, name: str) -> str:
        return self.parameterSetNode().GetAttribute(self._key(name)) or ""

    def parameterDefined(self, name: str) -> bool:
        return self.parameterSetNode().GetAttribute(self._key(name)) is not None

    def integerParameter(self, name: str) -> int:
        return int(float(self.parameter(name) or 0))

    def doubleParameter(self, name: str) -> float:
        return float(self.parameter(name) or 0)

    def setParameter(self, name: str, value: object) -> None:
        if self.parameter(name) != str(value):
            self.parameterSetNode().SetAttribute(self._key(name), str(value))
            self.parameterSetNode().InvokeEvent(slicer.vtkMRMLSegmentEditorNode.EffectParameterModified)

    def setParameterDefault(self, name: str, value: object) -> None:
        if not self.parameterDefined(name):
            self.parameterSetNode().SetAttribute(self._key(name), str(value))

    def referenceGeometryImage(self) -> object:
        self.logic.UpdateReferenceGeometryImage()
        return self.logic.GetReferenceGeometryImage()

    def defaultModifierLabelmap(self) -> object:
        self.referenceGeometryImage()
        self.logic.ResetModifierLabelmapToDefault()
        return self.logic.GetModifierLabelmap()

    def saveStateForUndo(self) -> None:
        self.logic.SaveStateForUndo()

    def confirmCurrentSegmentVisible(self) -> int:
        return 1

    def modifySelectedSegmentByLabelmap(
        self, labelmap: object, mode: int, extent: object = None, bypass: bool = False
    ) -> None:
        logic = slicer.vtkSlicerSegmentEditorLogic
        modes = (logic.ModificationModeSet, logic.ModificationModeAdd, logic.ModificationModeRemove,
                 logic.ModificationModeRemoveAll)  # fmt: skip
        self.logic.UpdateMaskLabelmap()
        node = self.parameterSetNode()
        self.logic.ModifySegmentByLabelmap(
            node.GetSegmentationNode(), node.GetSelectedSegmentID(), labelmap, modes[mode],
            extent or [0, -1, 0, -1, 0, -1], self.perSegment, bypass,
        )  # fmt: skip


class AbstractScriptedSegmentEditorEffect:
    """The Python base class that Slicer ships in `SegmentEditorEffects`."""

    registered: ClassVar[list[object]] = []

    def __init__(self, scriptedEffect: qSlicerSegmentEditorScriptedEffect) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        self.registered.append(self.scriptedEffect)

    def activate(self) -> None:
        pass

    def deactivate(self) -> None:
        pass

    def xyToIjk(
        self, xy: tuple[int, int], view: object, image: object, _transform: object = None
    ) -> list[int]:
        """Pixel of a place in a slice view, by the real logic."""
        ijk = [0, 0, 0]
        self.scriptedEffect.logic.XyToIjk(xy, ijk, view.sliceLogic().GetSliceNode(), image)
        return ijk


def install() -> None:
    slicer.qSlicerSegmentEditorAbstractEffect = qSlicerSegmentEditorAbstractEffect
    module = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    module.qSlicerSegmentEditorScriptedEffect = qSlicerSegmentEditorScriptedEffect
    sys.modules[module.__name__] = module
    base = types.ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect
    sys.modules[base.__name__] = base
