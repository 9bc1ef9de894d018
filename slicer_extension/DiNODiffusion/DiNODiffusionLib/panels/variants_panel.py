"""Variants: paint a concept where the selected segment is, or make the picture anew, and compare."""

from __future__ import annotations

import qt

from ..logic import concept_text
from ..scene import segments
from ..scene.generated import Candidate
from .gallery import Gallery
from .panel import Panel, checked, fill_checks

TASKS = (
    ("inpaint", "Paint inside the selected segment"),
    ("variant", "Vary the whole picture"),
    ("twin", "Healthy twin"),
)
RANGE_OF_WEIGHTS = (-2.0, 2.0)


class VariantsPanel(Panel):
    FILE = "Variants"

    def __init__(self, desk) -> None:
        super().__init__(desk)
        self.gallery = Gallery(lambda volume: desk.refresh())
        self.ui.galleryFrame.layout().addWidget(self.gallery.widget)
        self.weights: dict[str, qt.QDoubleSpinBox] = {}
        for key, text in TASKS:
            self.ui.taskBox.addItem(text, key)
        self.ui.generateButton.clicked.connect(self.generate)
        self.ui.taskBox.currentTextChanged.connect(self.changed)
        for widget in (self.ui.strengthSlider, self.ui.featherSlider):
            widget.valueChanged.connect(self.changed)
        for widget in (self.ui.candidatesBox, self.ui.seedBox):
            widget.editingFinished.connect(self.changed)
        self.ui.keepList.itemChanged.connect(self.changed)
        self._showing = False

    @property
    def task(self) -> str:
        return str(self.ui.taskBox.itemData(self.ui.taskBox.currentIndex) or "inpaint")

    def changed(self, *_: object) -> None:
        if self._showing:
            return
        parameters = self.desk.parameters

        def change() -> None:
            parameters.set("task", self.task)
            parameters.set("strength", round(self.ui.strengthSlider.value, 3))
            parameters.set("feather", round(self.ui.featherSlider.value, 3))
            parameters.set("candidates", self.ui.candidatesBox.value)
            parameters.set("seed", self.ui.seedBox.value)
            parameters.set("keep", checked(self.ui.keepList))
            parameters.set("concepts", self.concepts())

        parameters.changing(change)
        self.show_state()

    def concepts(self) -> dict[str, float]:
        return {name: box.value for name, box in self.weights.items() if box.value}

    def request(self) -> dict:
        """The parameters of the chosen task, as the server knows them."""
        common = {"candidates": self.ui.candidatesBox.value, "seed": self.ui.seedBox.value}
        if self.task == "variant":
            return {**common, "strength": self.ui.strengthSlider.value}
        if self.task == "twin":
            return {"seed": self.ui.seedBox.value}
        return {
            **common,
            "strength": self.ui.strengthSlider.value,
            "feather_mm": self.ui.featherSlider.value,
            "concept": concept_text(self.concepts()),
        }

    def generate(self, *_: object) -> None:
        desk = self.desk
        volume_id, volume = desk.volume_id, desk.volume
        edit = keep = None
        if self.task == "inpaint":
            edit = segments.mask_of(desk.segmentation, desk.segment_id, volume)
            for name in self.kept():
                mask = segments.mask_of(desk.segmentation, name, volume)
                keep = mask if keep is None else keep | mask
        steps = desk.logic.generate(volume_id, self.task, self.request(), edit, keep)
        title = self.title()
        desk.busy.start(
            desk.logic.start, steps, "Generating", lambda found: self.generated(volume_id, found, title)
        )

    def kept(self) -> list[str]:
        """Ids of the segments that stay as they are, never the one that is painted in."""
        known = segments.segment_ids(self.desk.segmentation)
        return [key for key in checked(self.ui.keepList) if key in known and key != self.desk.segment_id]

    def title(self) -> str:
        if self.task == "inpaint":
            return concept_text(self.concepts()) or "repainted"
        return {"variant": "variant", "twin": "healthy twin"}[self.task]

    def generated(self, volume_id: str, found: list[Candidate], title: str) -> str:
        if volume_id != self.desk.volume_id:
            return "Another image was chosen meanwhile, so the candidates were dropped."
        self.gallery.show(self.desk.volume, found, title)
        return f"{len(found)} candidates; choose one, compare, keep."

    def show_parameters(self) -> None:
        parameters = self.desk.parameters
        self._showing = True
        keys = [key for key, _ in TASKS]
        if parameters.get("task") in keys:
            self.ui.taskBox.setCurrentIndex(keys.index(parameters.get("task")))
        self.ui.strengthSlider.setValue(parameters.get("strength"))
        self.ui.featherSlider.setValue(parameters.get("feather"))
        self.ui.candidatesBox.setValue(parameters.get("candidates"))
        self.ui.seedBox.setValue(parameters.get("seed"))
        for name, box in self.weights.items():
            box.setValue(parameters.get("concepts").get(name, 0.0))
        self._showing = False

    def show_state(self) -> None:
        info, desk = self.desk.logic.info, self.desk
        told = {
            str(entry.get("alias") or entry.get("name")): str(entry.get("title") or entry.get("name"))
            for entry in (info.concepts if info else [])
            if entry.get("fits", True)
        }
        if list(self.weights) != list(told):
            self.show_concepts(told)
        entries = [
            (key, segments.name_of(desk.segmentation, key)) for key in segments.segment_ids(desk.segmentation)
        ]
        fill_checks(self.ui.keepList, entries, desk.parameters.get("keep"))
        inpaint = self.task == "inpaint"
        for widget in (self.ui.conceptsFrame, self.ui.keepList, self.ui.featherSlider):
            widget.setEnabled(inpaint)
        self.ui.strengthSlider.setEnabled(self.task != "twin")
        possible = bool(info and info.has(self.task)) and desk.volume is not None and not desk.busy.running
        self.ui.generateButton.setEnabled(possible and (not inpaint or bool(desk.segment_id)))
        if self.gallery.candidates and self.gallery.volume_id != desk.volume_id:
            self.gallery.clear()

    def show_concepts(self, told: dict[str, str]) -> None:
        """One weight for each concept that the server knows."""
        layout = self.ui.conceptsFrame.layout()
        while layout.count():
            item = layout.takeAt(0)
            item.widget().deleteLater()
        self.weights = {}
        for name, title in told.items():
            box = qt.QDoubleSpinBox()
            box.setObjectName("weight_" + name)
            box.setRange(*RANGE_OF_WEIGHTS)
            box.setSingleStep(0.25)
            box.setToolTip(title)
            box.setValue(self.desk.parameters.get("concepts").get(name, 0.0))
            box.valueChanged.connect(self.changed)
            layout.addRow(name, box)
            self.weights[name] = box
