"""What the sections of the panel share."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"


def pixmap(png: bytes) -> qt.QPixmap:
    """A PNG file as a picture for a label or button."""
    made = qt.QPixmap()
    made.loadFromData(png)
    return made


class Panel:
    """One section: its widgets come from `Resources/UI/<FILE>.ui` and are reached as `self.ui.<name>`."""

    FILE = ""

    def __init__(self, desk) -> None:
        self.desk = desk
        self.widget = slicer.util.loadUI(str(RESOURCES / "UI" / f"{self.FILE}.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.widget.setMRMLScene(slicer.mrmlScene)

    def show_parameters(self) -> None:
        """Puts the scene's choices into the widgets."""

    def show_state(self) -> None:
        """Enables what is possible now, after a connection, a selection or a task changed."""


def fill_checks(box: qt.QListWidget, entries: list[tuple[str, str]], chosen: list[str]) -> None:
    """Fills a list with entries that can be ticked: `(key, text)`."""
    box.blockSignals(True)
    box.clear()
    for key, text in entries:
        item = qt.QListWidgetItem(text)
        item.setData(qt.Qt.UserRole, key)
        item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
        item.setCheckState(qt.Qt.Checked if key in chosen else qt.Qt.Unchecked)
        box.addItem(item)
    box.blockSignals(False)


def checked(box: qt.QListWidget) -> list[str]:
    """The keys of the ticked entries."""
    items = [box.item(row) for row in range(box.count)]
    return [str(item.data(qt.Qt.UserRole)) for item in items if item.checkState() == qt.Qt.Checked]
