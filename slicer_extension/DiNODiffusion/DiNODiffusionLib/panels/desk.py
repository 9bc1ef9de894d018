"""What lies on the annotator's desk: the image, its segments, the editor, and what is under way."""

from __future__ import annotations

from collections.abc import Callable

import slicer

from ..logic import Logic
from ..scene import segments, volumes
from ..scene.parameters import Parameters
from .busy import Busy


class Desk:
    """Shared by the sections. `refresh` is called whenever something changed that others show."""

    def __init__(self, logic: Logic, parameters: Parameters, editor: slicer.qMRMLSegmentEditorWidget) -> None:
        self.logic, self.parameters, self.editor = logic, parameters, editor
        self.listeners: list[Callable[[], None]] = []
        self.busy = Busy(self.refresh)

    def refresh(self) -> None:
        for listener in self.listeners:
            listener()

    @property
    def volume(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        return self.parameters.node("volume")

    @property
    def volume_id(self) -> str:
        return self.volume.GetID() if self.volume is not None else ""

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        return self.parameters.node("segmentation")

    @property
    def segment_id(self) -> str:
        """The segment that is selected in the editor."""
        selected = self.editor.currentSegmentID()
        return selected if selected in segments.segment_ids(self.segmentation) else ""

    def choose_volume(self, volume: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Makes this the image on the desk, with its segmentation if it has one."""
        if volume is not None and volume is self.volume:
            return
        found, before = segmentation_of(volume), self.segmentation
        # Radiographs lie on each other in space: only the segments of the one on the desk are shown.
        if before is not None:
            before.SetDisplayVisibility(False)
        if found is not None:
            found.SetDisplayVisibility(True)

        def change() -> None:
            self.parameters.set_node("volume", volume)
            self.parameters.set_node("segmentation", found)

        self.parameters.changing(change)
        self.show_in_editor()
        volumes.show(volume)
        self.refresh()

    def ensure_segmentation(self) -> slicer.vtkMRMLSegmentationNode:
        """The segmentation of the image on the desk, made where there is none."""
        if self.segmentation is None:
            self.parameters.set_node("segmentation", segments.segmentation_for(self.volume))
            self.show_in_editor()
        return self.segmentation

    def show_in_editor(self) -> None:
        self.editor.setSegmentationNode(self.segmentation)
        if self.segmentation is not None:
            self.editor.setSourceVolumeNode(self.volume)

    def before_change(self) -> None:
        """Undo in the editor comes back to here."""
        self.show_in_editor()
        self.editor.saveStateForUndo()

    def connected(self) -> bool:
        return bool(self.logic.server)


def segmentation_of(volume: slicer.vtkMRMLVolumeNode | None) -> slicer.vtkMRMLSegmentationNode | None:
    """The newest segmentation that was made on this volume."""
    if volume is None:
        return None
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if node.GetNodeReferenceID(role) == volume.GetID() and not node.GetHideFromEditors()
    ]
    return found[-1] if found else None
