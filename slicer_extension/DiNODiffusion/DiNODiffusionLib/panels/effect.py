"""What both Segment Editor effects share: the connection, progress, and the way into segments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import qSlicerSegmentationsEditorEffectsPythonQt as effects
import qt
import slicer
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from vtk.util.numpy_support import vtk_to_numpy

from .. import shared
from ..net.tasks import Steps
from .busy import Busy

CONNECT = "Not connected: open the module DiNO-Diffusion and connect to a server first."


class ServerEffect(AbstractScriptedSegmentEditorEffect):
    """`FILE` is the effect's own source file, `NAME` its fixed name; the subclass makes its options."""

    FILE = ""
    NAME = ""

    def __init__(self, scriptedEffect) -> None:
        scriptedEffect.name = self.NAME
        scriptedEffect.perSegment = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.busy: Busy | None = None

    def clone(self):
        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(self.FILE.replace("\\", "/"))
        return cloned

    def add_busy(self) -> None:
        """Progress and Cancel, at the end of the options."""
        self.busy = Busy(self.updateGUIFromMRML)
        self.scriptedEffect.addOptionsWidget(self.busy.widget)

    def createCursor(self, widget):
        return qt.QCursor(qt.Qt.CrossCursor)

    def activate(self) -> None:
        if not self.logic.server:
            self.busy.say(CONNECT)

    def deactivate(self) -> None:
        self.busy.cancel()

    def cleanup(self) -> None:
        if self.busy is not None:
            self.busy.cancel()

    @property
    def logic(self):
        return shared.logic()

    @property
    def volume(self):
        node = self.scriptedEffect.parameterSetNode()
        return node.GetSourceVolumeNode() if node else None

    @property
    def segmentation(self):
        node = self.scriptedEffect.parameterSetNode()
        return node.GetSegmentationNode() if node else None

    def start(self, steps: Steps, title: str, on_done: Callable) -> None:
        """Runs steps; what they were for has to be selected still when they end."""
        volume, segmentation = self.volume, self.segmentation

        def done(value: object) -> str:
            if self.volume is not volume or self.segmentation is not segmentation or volume is None:
                return "The image or the segmentation was changed meanwhile, so the result was dropped."
            return on_done(value)

        self.busy.start(self.logic.start, steps, title, done)

    def modify(self, segment_id: str, mask: np.ndarray, mode: int) -> bool:
        """Changes one segment by a mask on the volume's grid, as the editor's masking and overwriting say."""
        self.scriptedEffect.parameterSetNode().SetSelectedSegmentID(segment_id)
        labelmap = self.scriptedEffect.defaultModifierLabelmap()
        scalars = labelmap.GetPointData().GetScalars()
        shape = labelmap.GetDimensions()[::-1]
        if tuple(shape) != mask.shape:
            self.busy.say("The segmentation has another grid than the image: set its source geometry to it.")
            return False
        vtk_to_numpy(scalars).reshape(shape)[:] = mask
        labelmap.Modified()
        self.scriptedEffect.modifySelectedSegmentByLabelmap(labelmap, mode)
        return True


MODE_ADD = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeAdd
