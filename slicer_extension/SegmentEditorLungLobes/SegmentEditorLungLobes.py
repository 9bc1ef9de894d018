"""Registers the Segment Editor effect "Lung lobes"; the effect itself is in SegmentEditorLungLobesLib."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

LIBRARY = "SegmentEditorLungLobesLib"


class SegmentEditorLungLobes(ScriptedLoadableModule):
    """Hidden: it is used from the Segment Editor."""

    def __init__(self, parent: object) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "SegmentEditorLungLobes"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "DiNODiffusion"]
        self.parent.contributors = ["The DiNO-Diffusion developers"]
        self.parent.hidden = True
        self.parent.helpText = _("The Segment Editor effect “Lung lobes” of DiNO-Diffusion.")
        self.parent.acknowledgementText = ""
        slicer.app.connect("startupCompleted()", self.register)

    def register(self) -> None:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        effect = effects.qSlicerSegmentEditorScriptedEffect(None)
        effect.setPythonSource(
            (Path(__file__).resolve().parent / LIBRARY / "SegmentEditorEffect.py").as_posix()
        )
        effect.self().register()
