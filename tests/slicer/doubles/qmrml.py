"""Slicer's MRML-aware widgets, as far as the extension uses them."""

from __future__ import annotations

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import QObject

from .pythonqt import custom


class SceneMixin:
    """`setMRMLScene` reaches the children that the .ui file connects, and no other."""

    wired_to_scene: tuple[str, ...] | list[str] = ()

    def setMRMLScene(self, scene: object) -> None:
        self._scene = scene
        for name in self.wired_to_scene:
            self.findChild(QtWidgets.QWidget, name).setMRMLScene(scene)

    def mrmlScene(self) -> object:
        return getattr(self, "_scene", None)


@custom
class qMRMLWidget(SceneMixin, QtWidgets.QWidget):
    pass


@custom
class qSlicerWidget(SceneMixin, QtWidgets.QWidget):
    pass


@custom
class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """Lists the scene's nodes of its types; a node that disappears is no longer current."""

    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene, self._ids, self._types = None, [], []
        self._none, self._show_child, self._observed = True, True, []
        self.currentIndexChanged.connect(self._emit)

    def _emit(self, *_: object) -> None:
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeIDChanged.emit(self.currentNodeID)

    def _set_types(self, value: list) -> None:
        self._types = list(value)
        self._fill()

    def _set_none(self, value: bool) -> None:
        self._none = value
        self._fill()

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _set_types)
    noneEnabled = QtCore.Property(bool, lambda self: self._none, _set_none)
    addEnabled = QtCore.Property(bool, lambda self: True, lambda self, value: None)
    removeEnabled = QtCore.Property(bool, lambda self: True, lambda self, value: None)
    renameEnabled = QtCore.Property(bool, lambda self: True, lambda self, value: None)
    showChildNodeTypes = QtCore.Property(
        bool, lambda self: self._show_child, lambda self, value: setattr(self, "_show_child", value)
    )

    def setMRMLScene(self, scene: object) -> None:
        self._scene = scene
        for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent,
                      slicer.vtkMRMLScene.EndCloseEvent):  # fmt: skip
            self._observed.append(scene.AddObserver(event, lambda *_: self._fill()))
        self._fill()

    def _fill(self) -> None:
        if self._scene is None:
            return
        current = self.currentNodeID
        self.blockSignals(True)
        self.clear()
        self._ids = []
        if self._none:
            self.addItem("None")
            self._ids.append("")
        for kind in self._types:
            for node in slicer.util.getNodesByClass(kind, self._scene):
                own = node.GetClassName() == kind or (self._show_child and node.IsA(kind))
                if own and not node.GetHideFromEditors():
                    self.addItem(node.GetName())
                    self._ids.append(node.GetID())
        self.setCurrentIndex(self._ids.index(current) if current in self._ids else (0 if self._ids else -1))
        self.blockSignals(False)
        if self.currentNodeID != current:
            self._emit()

    @property
    def currentNodeID(self) -> str:
        index = QObject.property(self, "currentIndex")
        return self._ids[index] if 0 <= index < len(self._ids) else ""

    def currentNode(self) -> object | None:
        return self._scene.GetNodeByID(self.currentNodeID) if self._scene and self.currentNodeID else None

    def setCurrentNode(self, node: object | None) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        if node_id in self._ids:
            self.setCurrentIndex(self._ids.index(node_id))


@custom
class qMRMLSegmentEditorWidget(SceneMixin, QtWidgets.QFrame):
    """The Segment Editor's widget over the real vtkSlicerSegmentEditorLogic, which does the work since
    5.11."""

    currentSegmentIDChanged = QtCore.Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetSegmentationHistory(slicer.vtkSegmentationHistory())
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetMaximumNumberOfUndoStates(10)
        self.shortcuts = self.views = False
        self.effect: object | None = None
        self.effects: dict[str, object] = {}
        layout = QtWidgets.QVBoxLayout(self)
        self.table = QtWidgets.QListWidget()
        layout.addWidget(QtWidgets.QLabel("(embedded Segment Editor)"))
        layout.addWidget(self.table)
        self.frame = QtWidgets.QVBoxLayout()
        layout.addLayout(self.frame)

    def setMRMLSegmentEditorNode(self, node: object) -> None:
        self.logic.SetSegmentEditorNode(node)

    def mrmlSegmentEditorNode(self) -> object:
        return self.logic.GetSegmentEditorNode()

    def setSegmentationNode(self, node: object) -> None:
        self.logic.SetSegmentationNode(node)
        if node is not None and not self.currentSegmentID() and node.GetSegmentation().GetNumberOfSegments():
            self.setCurrentSegmentID(node.GetSegmentation().GetNthSegmentID(0))

    def segmentationNode(self) -> object:
        return self.logic.GetSegmentationNode()

    def setSourceVolumeNode(self, node: object) -> None:
        self.logic.SetSourceVolumeNode(node)

    def sourceVolumeNode(self) -> object:
        return self.logic.GetSourceVolumeNode()

    def currentSegmentID(self) -> str:
        return self.logic.GetSegmentEditorNode().GetSelectedSegmentID() or ""

    def setCurrentSegmentID(self, segment: str) -> None:
        self.logic.GetSegmentEditorNode().SetSelectedSegmentID(segment)
        self.currentSegmentIDChanged.emit(segment)

    def saveStateForUndo(self) -> None:
        self.logic.SaveStateForUndo()

    def undo(self) -> None:
        self.logic.Undo()

    def redo(self) -> None:
        self.logic.Redo()

    def installKeyboardShortcuts(self) -> None:
        self.shortcuts = True

    def uninstallKeyboardShortcuts(self) -> None:
        self.shortcuts = False

    def setupViewObservations(self) -> None:
        self.views = True

    def removeViewObservations(self) -> None:
        self.views = False

    def setActiveEffectByName(self, name: str) -> None:
        if self.effect is not None:
            self.effect.deactivate()
        self.effect = self.effects.get(name)
        if self.effect is not None:
            self.frame.addWidget(self.effect.optionsFrame())
            self.effect.activate()

    def effectByName(self, name: str) -> object | None:
        from .effects import AbstractScriptedSegmentEditorEffect

        found = [effect for effect in AbstractScriptedSegmentEditorEffect.registered if effect.name == name]
        return found[0] if found else None

    def activeEffect(self) -> object | None:
        return self.effect

    def setMaximumNumberOfUndoStates(self, number: int) -> None:
        self.logic.SetMaximumNumberOfUndoStates(number)

    def updateWidgetFromMRML(self) -> None:
        self.table.clear()
        node = self.segmentationNode()
        segments = node.GetSegmentation() if node else None
        for index in range(segments.GetNumberOfSegments() if segments else 0):
            self.table.addItem(segments.GetNthSegment(index).GetName())


def install() -> None:
    for cls in (qMRMLWidget, qSlicerWidget, qMRMLNodeComboBox, qMRMLSegmentEditorWidget):
        setattr(slicer, cls.__name__, cls)
