"""The effect "Lung lobes": lung fields or zones by one click, any region by hover and click."""

from __future__ import annotations

from pathlib import Path

import ctk
import numpy as np
import qt
import slicer
import vtk
from DiNODiffusionLib.logic import Labelled
from DiNODiffusionLib.panels.effect import MODE_ADD, ServerEffect
from DiNODiffusionLib.scene import segments
from slicer.i18n import tr as _

HELP = """<html>Labels lung fields, zones and regions on a frontal chest radiograph.<br>
<b>On a frontal film the anatomical lobes overlap, so lobes cannot be outlined on it. What this shows
are the two lung fields, or their upper, middle and lower zones (thirds of a field's height).</b>
<ul><li><b>Send image and pre-label</b>: right and left field, or zones, as new segments.
<li><b>Send image and find regions</b>, then move the pointer: the region under it is shown.
<b>Left click</b> adds it to the selected segment, <b>Shift + left click</b> takes it away.
<li><b>Granularity</b>: from few large regions to many small ones.
<li><b>Esc</b> ends the effect, <b>Ctrl+Z</b> undoes.</ul>
The editor's masking and its overwriting of other segments apply.</html>"""

FIELDS, ZONES = "Right and left field", "Zones"
PREVIEW_COLOUR = (1.0, 0.85, 0.1)


class SegmentEditorEffect(ServerEffect):
    FILE, NAME = __file__, "Lung lobes"

    def __init__(self, scriptedEffect) -> None:
        ServerEffect.__init__(self, scriptedEffect)
        scriptedEffect.title = _("Lung lobes")
        scriptedEffect.requireSegments = False
        self.regions: np.ndarray | None = None
        self.regions_of = ""
        self.hovered = 0
        self.preview = None

    def icon(self) -> qt.QIcon:
        file = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "SegmentEditorLungLobes.png"
        return qt.QIcon(str(file))

    def helpText(self) -> str:
        return _(HELP)

    def setupOptionsFrame(self) -> None:
        self.what = qt.QComboBox()
        self.what.addItems([FIELDS, ZONES])
        self.what.currentTextChanged.connect(self.updateMRMLFromGUI)
        self.scriptedEffect.addLabeledOptionsWidget(_("Label:"), self.what)
        self.label_button = qt.QPushButton(_("Send image and pre-label"))
        self.label_button.clicked.connect(self.prelabel)
        self.scriptedEffect.addOptionsWidget(self.label_button)
        self.granularity = ctk.ctkSliderWidget()
        self.granularity.minimum, self.granularity.maximum = 0.0, 1.0
        self.granularity.singleStep = 0.05
        self.granularity.value = 0.5
        self.granularity.valueChanged.connect(self.updateMRMLFromGUI)
        self.scriptedEffect.addLabeledOptionsWidget(_("Granularity:"), self.granularity)
        self.regions_button = qt.QPushButton(_("Send image and find regions"))
        self.regions_button.clicked.connect(self.find_regions)
        self.scriptedEffect.addOptionsWidget(self.regions_button)
        self.add_busy()

    def setMRMLDefaults(self) -> None:
        self.scriptedEffect.setParameterDefault("Label", FIELDS)
        self.scriptedEffect.setParameterDefault("Granularity", 0.5)

    def updateGUIFromMRML(self) -> None:
        self.what.blockSignals(True)
        self.what.setCurrentText(self.scriptedEffect.parameter("Label"))
        self.what.blockSignals(False)
        self.granularity.blockSignals(True)
        self.granularity.value = self.scriptedEffect.doubleParameter("Granularity")
        self.granularity.blockSignals(False)
        info = self.logic.info
        free = not self.busy.running and self.volume is not None
        self.label_button.setEnabled(free and bool(info and info.has("lungs")))
        self.regions_button.setEnabled(free and bool(info and info.has("regions")))

    def updateMRMLFromGUI(self, *_args: object) -> None:
        self.scriptedEffect.setParameter("Label", self.what.currentText)
        granularity = round(self.granularity.value, 3)
        changed = granularity != self.scriptedEffect.doubleParameter("Granularity")
        self.scriptedEffect.setParameter("Granularity", granularity)
        if changed and self.regions is not None and not self.busy.running:
            # The image is on the server already; it answers from its cache.
            self.find_regions()

    # Pre-label

    def prelabel(self, *_args: object) -> None:
        zones = self.what.currentText == ZONES
        steps = self.logic.prelabel(self.volume.GetID() if self.volume else "", "lungs", zones, [])
        self.start(steps, "Labelling", self.apply)

    def apply(self, found: Labelled) -> str:
        if not found.labels:
            return "Nothing was found on this image."
        self.scriptedEffect.saveStateForUndo()
        segmentation = self.segmentation
        for label in found.labels:
            segment = segments.unedited(segmentation, self.volume, label.name)
            segment = segment or segments.add_empty(segmentation, label)
            if not self.modify(segment, found.array == label.value, MODE_ADD):
                return self.busy.status.text
        names = ", ".join(label.name for label in found.labels)
        return " ".join([f"Labelled {names}. Check and correct.", *found.warnings])

    # Regions

    def find_regions(self, *_args: object) -> None:
        volume_id = self.volume.GetID() if self.volume else ""
        asked = round(self.granularity.value, 3)
        steps = self.logic.regions(volume_id, asked)
        self.start(steps, "Finding regions", lambda array: self.found(volume_id, asked, array))

    def found(self, volume_id: str, asked: float, array: np.ndarray) -> str:
        self.regions, self.regions_of, self.hovered = array, volume_id, 0
        if asked != round(self.granularity.value, 3):
            # The slider moved on meanwhile.
            self.find_regions()
            return "Finding regions"
        count = len(np.unique(array[array > 0]))
        return f"{count} regions: move the pointer over the picture and click the one you want."

    def processInteractionEvents(self, interactor, event, view) -> bool:
        if self.regions is None or view.className() != "qMRMLSliceWidget":
            return False
        if event == vtk.vtkCommand.MouseMoveEvent:
            self.hover(self.region_at(interactor, view))
            return False
        if event == vtk.vtkCommand.LeftButtonPressEvent:
            region = self.region_at(interactor, view)
            if region:
                self.take(region, remove=bool(interactor.GetShiftKey()))
                return True
        return False

    def region_at(self, interactor, view) -> int:
        """The region under the pointer, 0 for none."""
        if self.volume is None or self.volume.GetID() != self.regions_of:
            return 0
        image = self.scriptedEffect.referenceGeometryImage()
        column, row, slice_ = self.xyToIjk(interactor.GetEventPosition(), view, image)
        slices, rows, columns = self.regions.shape
        if not (0 <= column < columns and 0 <= row < rows and 0 <= slice_ < slices):
            return 0
        return int(self.regions[slice_, row, column])

    def hover(self, region: int) -> None:
        """Shows the region under the pointer in a segmentation that is never saved."""
        if region == self.hovered:
            return
        self.hovered = region
        if self.preview is None:
            self.preview = segments.segmentation_for(self.volume)
            self.preview.SetName("DiNO-Diffusion preview")
            self.preview.SetHideFromEditors(True)
            self.preview.SetSaveWithScene(False)
            self.preview.GetSegmentation().AddEmptySegment("preview", "preview", PREVIEW_COLOUR)
        mask = self.regions == region if region else np.zeros(self.regions.shape, bool)
        segments.show_mask(self.preview, "preview", mask, self.volume)

    def take(self, region: int, remove: bool) -> None:
        """Adds the region to the selected segment, or takes it away; one Undo each."""
        segment = self.scriptedEffect.parameterSetNode().GetSelectedSegmentID()
        if not segment:
            self.scriptedEffect.saveStateForUndo()
            segment = segments.add_empty(self.segmentation, segments.label_named("region"))
        elif not self.scriptedEffect.confirmCurrentSegmentVisible():
            return
        else:
            self.scriptedEffect.saveStateForUndo()
        mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeRemove if remove else MODE_ADD
        self.modify(segment, self.regions == region, mode)

    def deactivate(self) -> None:
        ServerEffect.deactivate(self)
        self.forget()

    def cleanup(self) -> None:
        ServerEffect.cleanup(self)
        self.forget()

    def sourceVolumeNodeChanged(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.regions, self.hovered = None, 0
        if self.preview is not None and slicer.mrmlScene.IsNodePresent(self.preview):
            slicer.mrmlScene.RemoveNode(self.preview)
        self.preview = None
