"""A workbench for tests of the panel: the module on the doubles, driven by clicks, keys and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PySide6 import QtCore, QtTest, QtWidgets

from tests.slicer import doubles
from tests.slicer.doubles.scripted import load_module, make_widget
from tests.slicer.fake_server import TOKEN, FakeServer, finish
from tests.slicer.places import EXTENSION


class Bench:
    """The module in an empty scene, with everything a test looks at."""

    def __init__(self) -> None:
        self.double = doubles.start()
        import slicer
        from DiNODiffusionLib import shared

        from tests.slicer.doubles.views import SliceView

        self.slicer = slicer
        slicer.mrmlScene.Clear(0)
        shared._logic.clear()
        self.double.qt.QSettings.store.clear()
        if "Red" not in slicer.app.layoutManager().widgets:
            SliceView(self.double.core)
        self.view = slicer.app.layoutManager().sliceWidget("Red")
        self.module = load_module(EXTENSION / "DiNODiffusion" / "DiNODiffusion.py")
        self.widget = make_widget(self.module)
        self.widget.enter()
        self.desk = self.widget.desk

    def close(self) -> None:
        self.widget.cleanup()
        self.widget.parent.deleteLater()
        self.slicer.mrmlScene.Clear(0)

    def click(self, button: QtWidgets.QAbstractButton) -> None:
        assert QtCore.QObject.property(button, "enabled"), f"{button.name} cannot be pressed"
        QtTest.QTest.mouseClick(button, QtCore.Qt.MouseButton.LeftButton)

    def wait(self, until: Callable[[], object] | None = None, seconds: float = 20.0) -> None:
        """Lets the window tick until something holds, else until nothing is under way."""
        end = time.monotonic() + seconds
        holds = until or (lambda: not self.desk.busy.running)
        while not holds():
            assert time.monotonic() < end, f"waited in vain: {self.said}"
            self.double.app.processEvents()
            time.sleep(0.002)

    @property
    def said(self) -> str:
        return self.desk.busy.status.text

    def connect(self, server: FakeServer, token: str = TOKEN) -> None:
        ui = self.widget.connection.ui
        ui.addressBox.setCurrentText(server.url)
        ui.tokenEdit.setText(token)
        self.click(ui.connectButton)
        self.wait()

    def load(self, array: np.ndarray, matrix: np.ndarray | None = None, name: str = "chest") -> object:
        """An image that the user opened, chosen in the panel."""
        from DiNODiffusionLib.codec.geometry import Image
        from DiNODiffusionLib.scene import volumes

        grid = np.diag([-0.2, -0.2, 1.0, 1.0]) if matrix is None else matrix
        volume = volumes.add_volume(Image(array, grid), name)
        self.widget.image.ui.volumeBox.setCurrentNode(volume)
        assert self.desk.volume is volume
        return volume

    def masks(self) -> dict[str, np.ndarray]:
        from DiNODiffusionLib.scene import segments

        node = self.desk.segmentation
        return {
            segments.name_of(node, key): segments.mask_of(node, key, self.desk.volume)
            for key in segments.segment_ids(node)
        }

    def draw(self, name: str, mask: np.ndarray) -> str:
        """A segment as a person draws it in the editor, and selected there."""
        from DiNODiffusionLib.scene import segments

        node = self.desk.ensure_segmentation()
        key = segments.add_empty(node, segments.label_named(name))
        segments.set_mask(node, key, mask, self.desk.volume)
        self.desk.editor.setCurrentSegmentID(key)
        return key

    def shoot(self, path: Path, part: QtWidgets.QWidget | None = None, crop: bool = False) -> np.ndarray:
        """Saves panel and slice view as one picture; gives the view's part."""
        from tests.slicer.doubles.views import picture_of, save_beside

        if self.desk.volume is not None:
            self.view.show(self.desk.volume)
        shown = self.view.picture()
        save_beside(picture_of(part or self.widget.parent), shown, path, crop)
        return shown


class EffectBench(Bench):
    """The editor of the module with one effect active, connected to the server."""

    def __init__(self, server: FakeServer, module: str, array: np.ndarray, token: str = TOKEN) -> None:
        super().__init__()
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        self.connect(server, token)
        self.volume = self.load(array)
        self.segmentation = self.desk.ensure_segmentation()
        effects.qSlicerSegmentEditorScriptedEffect.logic = self.desk.editor.logic
        self.cpp = effects.qSlicerSegmentEditorScriptedEffect()
        self.cpp.setPythonSource(str(EXTENSION / module / f"{module}Lib" / "SegmentEditorEffect.py"))
        self.effect = self.cpp.self()
        self.desk.editor.effects[self.cpp.name] = self.cpp

    def activate(self) -> None:
        self.desk.editor.setActiveEffectByName(self.cpp.name)

    def wait_effect(self, seconds: float = 20.0) -> None:
        self.wait(lambda: not self.effect.busy.running, seconds)

    @property
    def node(self) -> object:
        return self.desk.editor.mrmlSegmentEditorNode()

    def shoot_effect(self, path: Path) -> None:
        from tests.slicer.doubles.views import picture_of, save_beside

        self.view.show(self.volume)
        save_beside(picture_of(self.cpp.optionsFrame(), 380), self.view.picture(), path)

    def pointer(self, event: str, row: int, column: int, shift: bool = False) -> bool:
        """The pointer at a pixel of the image, as the slice view's interactor reports it."""
        import vtk

        self.view.show(self.volume)
        interactor = self.view.interactor()
        interactor.SetEventPosition(*self.view.place_of(self.volume, row, column))
        interactor.SetShiftKey(int(shift))
        return self.effect.processInteractionEvents(interactor, getattr(vtk.vtkCommand, event), self.view)


def as_file(array: np.ndarray, matrix: np.ndarray | None = None) -> bytes:
    """An image of the server's store."""
    from DiNODiffusionLib.codec import nrrd
    from DiNODiffusionLib.codec.geometry import Image

    return finish(nrrd.encode(Image(array, np.diag([-0.2, -0.2, 1, 1]) if matrix is None else matrix)))


def stored_label(image: str, tag: str) -> object:
    """Steps that fetch a label of the server's store."""
    from DiNODiffusionLib.net.client import quoted
    from DiNODiffusionLib.net.messages import Request

    response = yield Request("GET", f"/datastore/label?label={quoted(image)}&tag={quoted(tag)}")
    return response.body
