"""A real Slicer slice view, rendered into memory, and pictures of panel and view together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition, ViewProps, ViewType
from vtk.util.numpy_support import vtk_to_numpy

SIDE = 640
QWIDGETSIZE_MAX = (1 << 24) - 1


class SliceView:
    """The Red slice view; stands in the layout as a `qMRMLSliceWidget` does."""

    def __init__(self, core: SlicerApp) -> None:
        core.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
        self._view = core.view_manager.create_view(
            ViewLayoutDefinition(
                singleton_tag="Red", view_type=ViewType.SLICE_VIEW, properties=ViewProps(orientation="Axial")
            )
        )
        self._view.render_window().SetSize(SIDE, SIDE)
        self._view.interactor().UpdateSize(SIDE, SIDE)
        # Drawn when a picture is taken; otherwise each change of the scene would cost a rendering.
        self._view.set_render_blocked(True)
        slicer.app.layoutManager().widgets["Red"] = self

    def className(self) -> str:
        return "qMRMLSliceWidget"

    def sliceLogic(self) -> object:
        return self._view._logic

    def mrmlSliceNode(self) -> object:
        return self.sliceLogic().GetSliceNode()

    def interactor(self) -> object:
        return self._view.interactor()

    def show(self, volume: object) -> None:
        self._view.set_background_volume_id(volume.GetID())
        self._view.fit_view_to_content()

    def picture(self) -> np.ndarray:
        """uint8 `(rows, columns, 3)` of what the view shows now."""
        self._view.set_render_blocked(False)
        self._view.render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._view.render_window())
        grab.SetInputBufferTypeToRGB()
        grab.ReadFrontBufferOff()
        grab.Update()
        self._view.set_render_blocked(True)
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1].copy()

    def place_of(self, volume: object, row: int, column: int) -> tuple[int, int]:
        """Where in the view a pixel of the volume lies."""
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        ras = matrix.MultiplyPoint((column, row, 0, 1))
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.sliceLogic().GetSliceNode().GetXYToRAS(), inverse)
        x, y = inverse.MultiplyPoint(ras)[:2]
        return round(x), round(y)


def picture_of(widget: QtWidgets.QWidget, width: int = 420) -> QtGui.QImage:
    """A widget as a person sees it."""
    widget.setFixedWidth(width)
    widget.show()
    QtWidgets.QApplication.processEvents()
    widget.resize(width, 1)
    QtWidgets.QApplication.processEvents()
    widget.resize(width, widget.sizeHint().height())
    QtWidgets.QApplication.processEvents()
    grabbed = widget.grab().toImage()
    widget.setMinimumWidth(0)
    widget.setMaximumWidth(QWIDGETSIZE_MAX)
    return grabbed


def save_beside(panel: QtGui.QImage, view: np.ndarray, path: Path, crop: bool = False) -> None:
    """Panel left, slice view right, in one PNG file; `crop` cuts the panel where the view ends."""
    rows, columns, _ = view.shape
    if crop:
        panel = panel.copy(0, 0, panel.width(), min(rows, panel.height()))
    right = QtGui.QImage(
        np.ascontiguousarray(view).data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888
    )
    made = QtGui.QImage(panel.width() + columns, max(panel.height(), rows), QtGui.QImage.Format.Format_RGB32)
    made.fill(QtGui.QColor(40, 40, 40))
    painter = QtGui.QPainter(made)
    painter.drawImage(QtCore.QPoint(0, 0), panel)
    painter.drawImage(QtCore.QPoint(panel.width(), 0), right)
    painter.end()
    made.save(str(path))
