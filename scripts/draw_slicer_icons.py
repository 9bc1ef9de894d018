"""Draws the icons of the Slicer extension: run in .venv-slicer, which has Qt.

QT_QPA_PLATFORM=offscreen .venv-slicer/bin/python scripts/draw_slicer_icons.py
"""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtCore, QtGui

EXTENSION = Path(__file__).resolve().parent.parent / "slicer_extension"
SIDE = 128
RIGHT, LEFT = QtGui.QColor(86, 180, 233), QtGui.QColor(245, 166, 35)


def lung(side: int) -> QtGui.QPainterPath:
    """One lung field of a frontal film; `side` 1 is the right one, on the left of the picture."""
    centre = SIDE / 2
    path = QtGui.QPainterPath(QtCore.QPointF(centre - side * 10, 26))
    path.cubicTo(centre - side * 30, 14, centre - side * 50, 40, centre - side * 52, 96)
    path.cubicTo(centre - side * 40, 112, centre - side * 22, 108, centre - side * 9, 100)
    path.closeSubpath()
    return path


def lungs(painter: QtGui.QPainter, right: QtGui.QColor, left: QtGui.QColor) -> None:
    painter.setPen(QtCore.Qt.PenStyle.NoPen)
    for side, colour in ((1, right), (-1, left)):
        painter.fillPath(lung(side), colour)


def module(painter: QtGui.QPainter) -> None:
    """Both fields, dissolving into noise to the right."""
    painter.fillRect(0, 0, SIDE, SIDE, QtGui.QColor(24, 28, 36))
    lungs(painter, RIGHT, LEFT)
    for row in range(12, SIDE - 12, 8):
        for column in range(84, SIDE - 8, 8):
            if (row * 7 + column * 13) % 5 < (column - 76) // 11:
                painter.fillRect(column, row, 7, 7, QtGui.QColor(24, 28, 36))


def lobes(painter: QtGui.QPainter) -> None:
    """Both fields with the lines of their zones."""
    lungs(painter, RIGHT, LEFT)
    painter.setPen(QtGui.QPen(QtGui.QColor(30, 40, 60), 4))
    for row in (52, 78):
        painter.drawLine(12, row, 54, row)
        painter.drawLine(74, row, 116, row)


def inpaint(painter: QtGui.QPainter) -> None:
    """Grey fields and a brush that paints a spot."""
    grey = QtGui.QColor(130, 140, 155)
    lungs(painter, grey, grey)
    painter.setBrush(QtGui.QColor(230, 80, 80))
    painter.setPen(QtCore.Qt.PenStyle.NoPen)
    painter.drawEllipse(26, 60, 34, 34)
    painter.setPen(QtGui.QPen(QtGui.QColor(250, 215, 110), 12, c=QtCore.Qt.PenCapStyle.RoundCap))
    painter.drawLine(56, 66, 112, 12)


ICONS = {
    "DiNODiffusion.png": module,
    "DiNODiffusion/Resources/Icons/DiNODiffusion.png": module,
    "SegmentEditorLungLobes/Resources/Icons/SegmentEditorLungLobes.png": lobes,
    "SegmentEditorDiffusionInpaint/Resources/Icons/SegmentEditorDiffusionInpaint.png": inpaint,
}


def main() -> None:
    """Writes every icon."""
    app = QtGui.QGuiApplication([])
    for name, draw in ICONS.items():
        image = QtGui.QImage(SIDE, SIDE, QtGui.QImage.Format.Format_ARGB32)
        image.fill(QtCore.Qt.GlobalColor.transparent)
        painter = QtGui.QPainter(image)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        draw(painter)
        painter.end()
        if not image.save(str(EXTENSION / name)):
            raise OSError(f"{name} could not be written")
    app.quit()


if __name__ == "__main__":
    main()
