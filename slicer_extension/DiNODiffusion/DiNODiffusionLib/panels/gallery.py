"""Candidates side by side: four thumbnails, before / after with a swipe, and the difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import qt
import slicer

from ..codec import png
from ..scene import pictures, volumes
from ..scene.generated import Candidate, keep, take_back
from .panel import pixmap

THUMBNAIL, LARGE = 84, 380
SWIPE, DIFFERENCE, AFTER = "Before | after", "Difference", "After"
PER_ROW = 4


class Gallery:
    """A widget that shows the candidates of one volume; empty until `show` is called."""

    def __init__(self, on_kept: Callable[[slicer.vtkMRMLScalarVolumeNode], None] | None = None) -> None:
        self.candidates: list[Candidate] = []
        self.volume_id, self.title, self.current = "", "", 0
        self._on_kept = on_kept or (lambda volume: None)
        self._before, self._window = None, (0.0, 1.0)
        self.widget = qt.QWidget()
        self.thumbnails: list[qt.QToolButton] = []
        self._row = qt.QGridLayout()
        self.mode = qt.QComboBox()
        self.mode.addItems([SWIPE, DIFFERENCE, AFTER])
        self.mode.setObjectName("galleryMode")
        self.mode.currentTextChanged.connect(self.draw)
        self.swipe = qt.QSlider(qt.Qt.Horizontal)
        self.swipe.setObjectName("gallerySwipe")
        self.swipe.setRange(0, 100)
        self.swipe.setValue(50)
        self.swipe.valueChanged.connect(self.draw)
        self.picture = qt.QLabel("")
        self.picture.setObjectName("galleryPicture")
        self.said = qt.QLabel("")
        self.said.setWordWrap(True)
        self.keep_button = qt.QPushButton("Keep as new volume, with mask and recipe")
        self.keep_button.setObjectName("keepButton")
        self.keep_button.clicked.connect(self.keep)
        self.undo_button = qt.QPushButton("Take back what was kept")
        self.undo_button.setObjectName("takeBackButton")
        self.undo_button.clicked.connect(self.take_back)
        self._kept_ids: list[str] = []
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._row)
        for widget in (self.mode, self.swipe, self.picture, self.said, self.keep_button, self.undo_button):
            layout.addWidget(widget)
        self.widget.hide()

    def show(self, volume: slicer.vtkMRMLVolumeNode, candidates: list[Candidate], title: str) -> None:
        """Replaces what was shown."""
        self.clear()
        self.candidates, self.volume_id, self.title = candidates, volume.GetID(), title
        self._before = volumes.image_of(volume).array
        self._window = pictures.window_of(volume, self._before)
        for index, candidate in enumerate(candidates):
            button = qt.QToolButton()
            button.setObjectName(f"candidate{index + 1}")
            button.setCheckable(True)
            button.setToolTip(f"Candidate {index + 1}")
            small = pictures.grey(candidate.array, self._window, THUMBNAIL)
            button.setIcon(qt.QIcon(pixmap(png.encode(small))))
            button.setIconSize(qt.QSize(THUMBNAIL, THUMBNAIL))
            button.clicked.connect(lambda *_, index=index: self.choose(index))
            self._row.addWidget(button, index // PER_ROW, index % PER_ROW)
            self.thumbnails.append(button)
        self.undo_button.hide()
        self.widget.show()
        self.choose(0)

    def clear(self) -> None:
        for button in self.thumbnails:
            self._row.removeWidget(button)
            button.deleteLater()
        self.thumbnails, self.candidates, self._kept_ids = [], [], []
        self.widget.hide()

    def choose(self, index: int) -> None:
        self.current = index
        for other, button in enumerate(self.thumbnails):
            button.setChecked(other == index)
        candidate = self.candidates[index]
        if candidate.mask is None:
            said = "The whole picture is new."
        elif candidate.untouched(self._before):
            said = "Every pixel outside the mask is identical to the original's."
        else:
            said = "Beware: pixels outside the mask differ from the original's."
        self.said.setText(said)
        self.draw()

    def image(self) -> np.ndarray | None:
        """What the large picture shows: uint8, grey or RGB."""
        if not self.candidates:
            return None
        before = pictures.grey(self._before, self._window, LARGE)
        after = pictures.grey(self.candidates[self.current].array, self._window, LARGE)
        mode = self.mode.currentText
        if mode == SWIPE:
            return pictures.swiped(before, after, self.swipe.value / 100)
        return pictures.difference(before, after) if mode == DIFFERENCE else after

    def draw(self, *_: object) -> None:
        shown = self.image()
        if shown is not None:
            picture = pixmap(png.encode(shown))
            side = max(picture.width(), picture.height())
            if side < LARGE:
                picture = picture.scaledToWidth(picture.width() * LARGE // side)
            self.picture.setPixmap(picture)
            self.swipe.setVisible(self.mode.currentText == SWIPE)

    def keep(self, *_: object) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The chosen candidate as a new volume; the original stays as it is."""
        volume = slicer.mrmlScene.GetNodeByID(self.volume_id)
        if volume is None or not self.candidates:
            self.said.setText("The radiograph was closed meanwhile, so nothing was kept.")
            return None
        candidate = self.candidates[self.current]
        made = keep(candidate, volume, f"{self.title} {candidate.title}".strip())
        self.said.setText(f"Kept as {made.GetName()}; the original was not changed.")
        self._kept_ids.append(made.GetID())
        self.undo_button.show()
        self._on_kept(made)
        return made

    def take_back(self, *_: object) -> None:
        """Undoes the last Keep."""
        made = slicer.mrmlScene.GetNodeByID(self._kept_ids.pop())
        if made is not None:
            self.said.setText(f"{made.GetName()} was taken back.")
            take_back(made)
        self.undo_button.setVisible(bool(self._kept_ids))
