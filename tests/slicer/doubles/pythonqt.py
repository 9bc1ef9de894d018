"""`qt` as PythonQt has it, over PySide6: properties are attributes, .ui files name Slicer's widgets."""

from __future__ import annotations

import sys
import types
import xml.etree.ElementTree as ET
from typing import ClassVar

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import QObject

CUSTOM: dict[str, type] = {}
"""Widgets that .ui files may name, by class name; the other doubles register themselves here."""


def custom(cls: type) -> type:
    CUSTOM[cls.__name__] = cls
    return cls


VIRTUAL = ("sizeHint", "minimumSizeHint")
"""Getters that Qt itself calls as virtual functions: an attribute in their place would call itself."""


def _properties(cls: type) -> None:
    """Turns the getters of a class's Qt properties into attributes, which is what PythonQt shows."""
    meta = getattr(cls, "staticMetaObject", None)
    if meta is None:
        return
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if name in VIRTUAL:
            continue

        def read(self: QObject, name: str = name) -> object:
            return QObject.property(self, name)

        def write(self: QObject, value: object, name: str = name) -> None:
            if not QObject.setProperty(self, name, value):
                getattr(self, "set" + name[0].upper() + name[1:])(value)

        setattr(cls, name, property(read, write if meta.property(index).isWritable() else None))


class UiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file as Slicer does; a widget class that no double stands for is an error, not a blank."""

    def load(self, file: QtCore.QFile, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        tree = ET.parse(file.fileName())
        for entry in tree.iter("customwidget"):
            name = entry.findtext("class") or ""
            if name not in CUSTOM:
                raise LookupError(f"{file.fileName()} uses {name}, for which the tests have no double")
            self.registerCustomWidget(CUSTOM[name])
        # Qt cannot make these connections here; the widgets that get the scene are remembered instead.
        wired = [entry.findtext("receiver") for entry in tree.iter("connection")
                 if entry.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"]  # fmt: skip
        for entry in tree.iter("connections"):
            entry.clear()
        data = QtCore.QByteArray(ET.tostring(tree.getroot()))
        buffer = QtCore.QBuffer(data)
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise ValueError(f"{file.fileName()}: {self.errorString()}")
        widget.wired_to_scene = wired
        return widget


class Settings:
    """QSettings in memory: what the extension keeps there can be looked at."""

    store: ClassVar[dict[str, object]] = {}

    def value(self, key: str, default: object = None) -> object:
        return self.store.get(key, default)

    def setValue(self, key: str, value: object) -> None:
        self.store[key] = value

    def contains(self, key: str) -> bool:
        return key in self.store

    def remove(self, key: str) -> None:
        self.store.pop(key, None)


def install() -> types.ModuleType:
    qt = types.ModuleType("qt")
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            if not name.startswith("_"):
                setattr(qt, name, getattr(module, name))
    for cls in {
        value for value in vars(qt).values() if isinstance(value, type) and issubclass(value, QObject)
    }:
        _properties(cls)
    QObject.name = property(lambda self: QObject.property(self, "objectName"))
    QObject.className = lambda self: self.metaObject().className()
    qt.QUiLoader = UiLoader
    qt.QSettings = Settings
    sys.modules["qt"] = qt
    return qt
