"""Pre-label: lungs, zones and learnt segments into editable segments."""

from __future__ import annotations

from ..logic import Arrived, Labelled
from ..scene import segments
from .panel import Panel, checked, fill_checks

NO_LABELLERS = ("inpaint", "variant", "twin", "strip", "regions")


class PrelabelPanel(Panel):
    FILE = "Prelabel"

    def __init__(self, desk) -> None:
        super().__init__(desk)
        self.ui.prelabelButton.clicked.connect(self.prelabel)
        self.ui.undoButton.clicked.connect(self.undo)
        self.ui.zonesCheck.toggled.connect(self.changed)
        self.ui.embeddingsList.itemChanged.connect(self.changed)

    def changed(self, *_: object) -> None:
        self.desk.parameters.set("zones", self.ui.zonesCheck.checked)
        self.desk.parameters.set("embeddings", checked(self.ui.embeddingsList))

    def choice(self) -> tuple[str, bool, list[str]]:
        """Model, zones, learnt segments, as chosen."""
        return self.ui.modelBox.currentText, self.ui.zonesCheck.checked, checked(self.ui.embeddingsList)

    def prelabel(self, *_: object) -> None:
        volume_id = self.desk.volume_id
        steps = self.desk.logic.prelabel(volume_id, *self.choice())
        self.desk.busy.start(
            self.desk.logic.start, steps, "Labelling", lambda found: self.apply(volume_id, found)
        )

    def apply(self, volume_id: str, found: Labelled) -> str:
        """New segments; those that were there stay, and one Undo takes the new ones back."""
        if volume_id != self.desk.volume_id:
            return "Another image was chosen meanwhile, so the labels were dropped."
        if not found.labels:
            return "Nothing was found on this image."
        segmentation = self.desk.ensure_segmentation()
        self.desk.before_change()
        made = segments.add_labels(segmentation, self.desk.volume, found.array, found.labels)
        self.desk.show_in_editor()
        self.desk.editor.setCurrentSegmentID(made[0])
        self.desk.editor.updateWidgetFromMRML()
        names = ", ".join(label.name for label in found.labels)
        sure = f" Uncertainty {found.uncertainty:.2f}." if found.uncertainty is not None else ""
        return " ".join([f"Labelled {names}.{sure} Check and correct.", *found.warnings])

    def arrived(self, volume, arrived: Arrived) -> None:
        """Labels that were made ahead go onto the image as it opens."""
        if arrived.result is not None:
            self.apply(volume.GetID(), self.desk.logic.labelled(volume.GetID(), arrived.result))

    def undo(self, *_: object) -> None:
        self.desk.editor.undo()
        self.desk.editor.updateWidgetFromMRML()
        self.desk.busy.say("Undone; Ctrl+Y brings it back.")

    def show_parameters(self) -> None:
        self.ui.zonesCheck.blockSignals(True)
        self.ui.zonesCheck.setChecked(self.desk.parameters.get("zones"))
        self.ui.zonesCheck.blockSignals(False)

    def show_state(self) -> None:
        info = self.desk.logic.info
        models = [name for name in info.models if name not in NO_LABELLERS] if info else []
        if [self.ui.modelBox.itemText(i) for i in range(self.ui.modelBox.count)] != models:
            self.ui.modelBox.clear()
            self.ui.modelBox.addItems(models)
            if "lungs" in models:
                self.ui.modelBox.setCurrentText("lungs")
        learnt = [str(entry.get("name")) for entry in info.embeddings] if info else []
        chosen = self.desk.parameters.get("embeddings")
        fill_checks(self.ui.embeddingsList, [(name, name) for name in learnt], chosen)
        self.ui.zonesCheck.setEnabled(bool(info and info.own))
        ready = bool(models) and self.desk.volume is not None and not self.desk.busy.running
        self.ui.prelabelButton.setEnabled(ready)
        self.ui.undoButton.setEnabled(self.desk.segmentation is not None)
