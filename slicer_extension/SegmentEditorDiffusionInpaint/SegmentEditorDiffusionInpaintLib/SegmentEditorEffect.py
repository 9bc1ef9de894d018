"""The effect "Diffusion inpaint": paints a concept where the selected segment is, into a new volume."""

from __future__ import annotations

from pathlib import Path

import ctk
import qt
from DiNODiffusionLib.logic import concept_text
from DiNODiffusionLib.panels.effect import ServerEffect
from DiNODiffusionLib.panels.gallery import Gallery
from DiNODiffusionLib.panels.panel import checked, fill_checks
from DiNODiffusionLib.scene import segments, volumes
from DiNODiffusionLib.scene.generated import Candidate
from slicer.i18n import tr as _

HELP = """<html>Paints synthetic findings into a copy of the radiograph.
<ul><li>The <b>selected segment</b> is where the picture may change; <b>Keep</b> names segments that stay.
<li>Choose a concept, a strength and how many candidates; <b>Send image and paint</b>.
<li>Click a thumbnail, compare; <b>Keep</b> makes a new volume with its mask and recipe.
<li><b>Show it in place of the original</b> puts the new volume into the views. The original is never changed.
<li><b>Esc</b> ends the effect.</ul>
Every pixel outside the mask stays identical; this is checked for each candidate. What is painted is
synthetic:
use it for training and research, never for diagnosis.</html>"""

NO_CONCEPT = "as the surroundings"


class SegmentEditorEffect(ServerEffect):
    FILE, NAME = __file__, "Diffusion inpaint"

    def __init__(self, scriptedEffect) -> None:
        ServerEffect.__init__(self, scriptedEffect)
        scriptedEffect.title = _("Diffusion inpaint")
        scriptedEffect.requireSegments = True
        self.gallery: Gallery | None = None

    def icon(self) -> qt.QIcon:
        folder = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
        return qt.QIcon(str(folder / "SegmentEditorDiffusionInpaint.png"))

    def helpText(self) -> str:
        return _(HELP)

    def setupOptionsFrame(self) -> None:
        add = self.scriptedEffect.addLabeledOptionsWidget
        self.concept = qt.QComboBox()
        self.concept.currentTextChanged.connect(self.updateMRMLFromGUI)
        add(_("Concept:"), self.concept)
        self.strength, self.feather = ctk.ctkSliderWidget(), ctk.ctkSliderWidget()
        for slider, low, high, step, name in (
            (self.strength, 0.05, 1.0, 0.05, _("Strength:")),
            (self.feather, 0.0, 20.0, 0.5, _("Soft edge (mm):")),
        ):
            slider.minimum, slider.maximum, slider.singleStep = low, high, step
            slider.valueChanged.connect(self.updateMRMLFromGUI)
            add(name, slider)
        self.candidates, self.seed = qt.QSpinBox(), qt.QSpinBox()
        self.candidates.setRange(1, 8)
        self.seed.setRange(0, 2**31 - 1)
        for box, name in ((self.candidates, _("Candidates:")), (self.seed, _("Seed:"))):
            box.editingFinished.connect(self.updateMRMLFromGUI)
            add(name, box)
        self.keep = qt.QListWidget()
        self.keep.setMaximumHeight(80)
        self.keep.itemChanged.connect(self.updateMRMLFromGUI)
        add(_("Keep as they are:"), self.keep)
        self.paint_button = qt.QPushButton(_("Send image and paint"))
        self.paint_button.clicked.connect(self.paint)
        self.scriptedEffect.addOptionsWidget(self.paint_button)
        self.in_place = qt.QCheckBox(_("Show it in place of the original"))
        self.scriptedEffect.addOptionsWidget(self.in_place)
        self.gallery = Gallery(self.kept)
        self.scriptedEffect.addOptionsWidget(self.gallery.widget)
        self.add_busy()

    def setMRMLDefaults(self) -> None:
        for name, value in (("Concept", ""), ("Strength", 1.0), ("Feather", 4.0), ("Candidates", 4),
                            ("Seed", 0), ("Keep", "")):  # fmt: skip
            self.scriptedEffect.setParameterDefault(name, value)

    def updateGUIFromMRML(self) -> None:
        effect, info = self.scriptedEffect, self.logic.info
        widgets = (self.concept, self.strength, self.feather, self.candidates, self.seed, self.keep)
        for widget in widgets:
            widget.blockSignals(True)
        names = [NO_CONCEPT]
        names += [str(entry.get("alias") or entry.get("name")) for entry in (info.concepts if info else [])
                  if entry.get("fits", True)]  # fmt: skip
        if [self.concept.itemText(i) for i in range(self.concept.count)] != names:
            self.concept.clear()
            self.concept.addItems(names)
        self.concept.setCurrentText(effect.parameter("Concept") or NO_CONCEPT)
        self.strength.value = effect.doubleParameter("Strength")
        self.feather.value = effect.doubleParameter("Feather")
        self.candidates.setValue(effect.integerParameter("Candidates"))
        self.seed.setValue(effect.integerParameter("Seed"))
        entries = [
            (key, segments.name_of(self.segmentation, key)) for key in segments.segment_ids(self.segmentation)
        ]
        fill_checks(self.keep, entries, effect.parameter("Keep").split(";"))
        for widget in widgets:
            widget.blockSignals(False)
        possible = not self.busy.running and self.volume is not None and bool(self.selected)
        self.paint_button.setEnabled(possible and bool(info and info.has("inpaint")))

    def updateMRMLFromGUI(self, *_args: object) -> None:
        concept = self.concept.currentText
        # All are read first: each change shows the stored values again.
        values = {
            "Concept": "" if concept == NO_CONCEPT else concept,
            "Strength": round(self.strength.value, 3),
            "Feather": round(self.feather.value, 3),
            "Candidates": self.candidates.value,
            "Seed": self.seed.value,
            "Keep": ";".join(checked(self.keep)),
        }
        for name, value in values.items():
            self.scriptedEffect.setParameter(name, value)

    @property
    def selected(self) -> str:
        node = self.scriptedEffect.parameterSetNode()
        found = (node.GetSelectedSegmentID() or "") if node else ""
        return found if found in segments.segment_ids(self.segmentation) else ""

    def paint(self, *_args: object) -> None:
        volume, edit, keep = self.volume, None, None
        edit = segments.mask_of(self.segmentation, self.selected, volume)
        for segment in checked(self.keep):
            if segment != self.selected:
                mask = segments.mask_of(self.segmentation, segment, volume)
                keep = mask if keep is None else keep | mask
        concept = self.scriptedEffect.parameter("Concept")
        params = {
            "concept": concept_text({concept: 1.0}) if concept else "",
            "strength": round(self.strength.value, 3),
            "feather_mm": round(self.feather.value, 3),
            "candidates": self.candidates.value,
            "seed": self.seed.value,
        }
        steps = self.logic.generate(volume.GetID(), "inpaint", params, edit, keep)
        title = concept or "repainted"
        self.start(steps, "Painting", lambda found: self.painted(found, title))

    def painted(self, found: list[Candidate], title: str) -> str:
        self.gallery.show(self.volume, found, title)
        return f"{len(found)} candidates; choose one, compare, keep."

    def kept(self, volume) -> None:
        """The segmentation stays on the original; only what the views show may change."""
        volumes.show(volume if self.in_place.checked else self.volume)

    def sourceVolumeNodeChanged(self) -> None:
        if self.gallery is not None:
            self.gallery.clear()

    def deactivate(self) -> None:
        ServerEffect.deactivate(self)
        self.gallery.clear()
