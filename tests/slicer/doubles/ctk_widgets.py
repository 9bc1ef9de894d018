"""The few CTK widgets that the extension uses."""

from __future__ import annotations

import sys
import types

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import QObject

from .pythonqt import custom


@custom
class ctkCollapsibleButton(QtWidgets.QGroupBox):
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False

    def _collapse(self, value: bool) -> None:
        self._collapsed = bool(value)
        for child in self.findChildren(
            QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        ):
            child.setVisible(not value)
        self.contentsCollapsed.emit(self._collapsed)

    text = QtCore.Property(
        str, lambda self: QObject.property(self, "title"), lambda self, value: self.setTitle(value)
    )
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _collapse)

    def setCollapsed(self, value: bool) -> None:
        self._collapse(value)


@custom
class ctkSliderWidget(QtWidgets.QWidget):
    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self.slider.setRange(0, 1000)
        self.spin = QtWidgets.QDoubleSpinBox()
        layout.addWidget(self.slider)
        layout.addWidget(self.spin)
        self.slider.valueChanged.connect(self._slid)
        self.spin.valueChanged.connect(self._spun)

    def _range(self) -> tuple[float, float]:
        return QObject.property(self.spin, "minimum"), QObject.property(self.spin, "maximum")

    def _slid(self, value: int) -> None:
        low, high = self._range()
        self.spin.setValue(low + (high - low) * value / 1000)

    def _spun(self, value: float) -> None:
        low, high = self._range()
        self.slider.blockSignals(True)
        self.slider.setValue(round(1000 * (value - low) / ((high - low) or 1)))
        self.slider.blockSignals(False)
        self.valueChanged.emit(value)

    value = QtCore.Property(
        float, lambda self: QObject.property(self.spin, "value"), lambda self, v: self.spin.setValue(v)
    )
    minimum = QtCore.Property(float, lambda self: self._range()[0], lambda self, v: self.spin.setMinimum(v))
    maximum = QtCore.Property(float, lambda self: self._range()[1], lambda self, v: self.spin.setMaximum(v))
    singleStep = QtCore.Property(
        float,
        lambda self: QObject.property(self.spin, "singleStep"),
        lambda self, v: self.spin.setSingleStep(v),
    )
    decimals = QtCore.Property(
        int, lambda self: QObject.property(self.spin, "decimals"), lambda self, v: self.spin.setDecimals(v)
    )
    suffix = QtCore.Property(
        str, lambda self: QObject.property(self.spin, "suffix"), lambda self, v: self.spin.setSuffix(v)
    )

    def setValue(self, value: float) -> None:
        self.spin.setValue(value)


def install() -> None:
    ctk = types.ModuleType("ctk")
    for cls in (ctkCollapsibleButton, ctkSliderWidget):
        setattr(ctk, cls.__name__, cls)
    sys.modules["ctk"] = ctk
