"""`slicer.app`, `slicer.modules` and the scene, over slicer-core's real logics."""

from __future__ import annotations

import sys
import tempfile
import types
from pathlib import Path

import slicer
import slicer.util
import vtk
from PySide6 import QtCore, QtWidgets
from trame_slicer.core import SlicerApp


def qt_application() -> QtWidgets.QApplication:
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(sys.argv[:1])


class _Module:
    """What `slicer.modules.<name>` gives: the module's C++ logic."""

    def __init__(self, logic: object) -> None:
        self._logic = logic

    def logic(self) -> object:
        return self._logic


class LayoutManager:
    """The layout: one slice view, Red, whose nodes the tests make themselves (see `views`)."""

    def __init__(self) -> None:
        self.widgets: dict[str, object] = {}
        self.layout = None

    def setLayout(self, layout: int) -> None:
        self.layout = layout

    def sliceViewNames(self) -> list[str]:
        return list(self.widgets)

    def mrmlSliceLogics(self) -> vtk.vtkCollection:
        logics = vtk.vtkCollection()
        for widget in self.widgets.values():
            logics.AddItem(widget.sliceLogic())
        return logics

    def sliceWidget(self, name: str) -> object | None:
        return self.widgets.get(name)


class Application(QtCore.QObject):
    """`slicer.app`: the few of its methods that the extension calls, and what it was told."""

    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    temporaryPath = tempfile.gettempdir()
    majorVersion, minorVersion = 5, 11

    def __init__(self, core: SlicerApp) -> None:
        super().__init__()
        self._core = core
        self._layout = LayoutManager()
        self._settings_folder = Path(tempfile.mkdtemp(prefix="slicer-settings-"))

    @property
    def slicerUserSettingsFilePath(self) -> str:
        return str(self._settings_folder / "Slicer.ini")

    def connect(self, signal: str, function: object) -> None:
        """PythonQt's way to connect by signature."""
        getattr(self, signal.partition("(")[0]).connect(function)

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def applicationLogic(self) -> object:
        return self._core.app_logic

    def processEvents(self) -> None:
        qt_application().processEvents()

    def userSettings(self) -> object:
        return sys.modules["qt"].QSettings()

    settings = userSettings

    def testingEnabled(self) -> bool:
        return True

    def translate(self, _context: str, text: str) -> str:
        return text


def boot(_qt: types.ModuleType) -> SlicerApp:
    qt_application()
    core = SlicerApp()
    slicer.mrmlScene = core.scene
    slicer.app = Application(core)
    slicer.modules = types.SimpleNamespace(
        segmentations=_Module(core.segmentations_logic),
        volumes=_Module(core.volumes_logic),
        terminologies=_Module(core.terminologies_logic),
        colors=_Module(core.color_logic),
    )
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda _context, text: text
    sys.modules["slicer.i18n"] = i18n
    slicer.i18n = i18n
    return core
