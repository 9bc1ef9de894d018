"""The module: label chest radiographs, and paint variants of them, with the help of a server."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HELP = """Labels lungs, zones and segments that you teach it on frontal chest radiographs, and makes variants
of the open image. Works with a DiNO-Diffusion server (everything) or any MONAI Label server (labelling).
Nothing is sent before you press a button that says so.<br>
Research software: nothing it shows may be used for diagnosis or treatment.<br>
Keys: Ctrl+Shift+L pre-label, Ctrl+Return submit and next image, Ctrl+Shift+K skip; the Segment Editor's own
keys work in the embedded editor."""


class DiNODiffusion(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: object) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "DiNO-Diffusion"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["SegmentEditor", "Segmentations", "Volumes"]
        self.parent.contributors = ["The DiNO-Diffusion developers"]
        self.parent.helpText = _(HELP)
        self.parent.acknowledgementText = _(
            "Methods: DiNO-Diffusion (arXiv 2407.11594), textual inversion for medical images (arXiv"
            " 2303.13430)."
        )
        slicer.app.connect("startupCompleted()", register_samples)


def register_samples() -> None:
    """Synthetic radiographs in the Sample Data module."""
    from DiNODiffusionLib.samples import register

    register(Path(__file__).resolve().parent)


class DiNODiffusionLogic(ScriptedLoadableModuleLogic):
    """Holds the parameter node; the work is done by `DiNODiffusionLib.logic`, which the effects share."""


class DiNODiffusionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: six sections and the embedded Segment Editor."""

    def __init__(self, parent: object = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.desk = None
        self.shortcuts: list[qt.QShortcut] = []

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from DiNODiffusionLib import shared
        from DiNODiffusionLib.panels.connect_panel import ConnectPanel
        from DiNODiffusionLib.panels.desk import Desk
        from DiNODiffusionLib.panels.image_panel import ImagePanel
        from DiNODiffusionLib.panels.learn_panel import LearnPanel
        from DiNODiffusionLib.panels.prelabel_panel import PrelabelPanel
        from DiNODiffusionLib.panels.submit_panel import SubmitPanel
        from DiNODiffusionLib.panels.variants_panel import VariantsPanel

        self.logic = DiNODiffusionLogic()
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMaximumNumberOfUndoStates(10)
        self.desk = Desk(shared.logic(), self.parameters(), self.editor)
        self.connection, self.image = ConnectPanel(self.desk), ImagePanel(self.desk)
        self.prelabel, self.learn = PrelabelPanel(self.desk), LearnPanel(self.desk)
        self.variants, self.submit = VariantsPanel(self.desk), SubmitPanel(self.desk)
        self.panels = [
            self.connection, self.image, self.prelabel, self.learn, self.variants, self.submit
        ]  # fmt: skip
        self.connection.on_connected = self.image.forget
        self.image.prelabel_choice = self.prelabel.choice
        self.image.on_arrived = self.prelabel.arrived
        self.submit.next_image = self.image.next
        for part in (
            self.connection.widget, self.image.widget, self.prelabel.widget, self.desk.busy.widget,
            self.editor, self.learn.widget, self.variants.widget, self.submit.widget,
        ):  # fmt: skip
            self.layout.addWidget(part)
        self.layout.addStretch(1)
        self.desk.listeners.append(self.refresh)
        self.use_editor_node(fresh=True)
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.editor.currentSegmentIDChanged.connect(self.refresh)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.on_scene_closing)
        self.addObserver(scene, scene.EndCloseEvent, self.on_scene_closed)
        self.addObserver(scene, scene.EndImportEvent, self.on_scene_opened)
        self.addObserver(scene, scene.NodeRemovedEvent, self.on_node_removed)
        self.reload_parameters()

    def parameters(self):
        from DiNODiffusionLib.scene.parameters import Parameters

        return Parameters(self.logic.getParameterNode())

    def use_editor_node(self, fresh: bool) -> None:
        """The embedded editor's own choices, apart from those of the Segment Editor module."""
        node = slicer.mrmlScene.GetSingletonNode("DiNODiffusionEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag("DiNODiffusionEditor")
            node = slicer.mrmlScene.AddNode(node)
        if fresh:
            # Other segments keep their pixels unless the person decides otherwise.
            node.SetOverwriteMode(node.OverwriteNone)
        self.editor.setMRMLSegmentEditorNode(node)

    def refresh(self, *_: object) -> None:
        for panel in self.panels:
            panel.show_state()

    def reload_parameters(self) -> None:
        """After a scene was opened or closed: everything is shown as it says."""
        self.desk.parameters = self.parameters()
        self.desk.show_in_editor()
        for panel in self.panels:
            panel.show_parameters()
        self.refresh()

    # What happens around the module

    def on_scene_closing(self, *_: object) -> None:
        self.desk.busy.cancel()
        self.image.forget()
        self.variants.gallery.clear()
        self.editor.setSegmentationNode(None)

    def on_scene_closed(self, *_: object) -> None:
        self.use_editor_node(fresh=True)
        self.reload_parameters()

    def on_scene_opened(self, *_: object) -> None:
        self.use_editor_node(fresh=False)
        self.reload_parameters()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node_removed(self, caller: object, event: object, node: slicer.vtkMRMLNode) -> None:
        if node is not None and node.GetID() == self.variants.gallery.volume_id:
            self.variants.gallery.clear()
        if not slicer.mrmlScene.IsClosing():
            self.refresh()

    def enter(self) -> None:
        """The editor's keys and ours work only while the module is open."""
        self.editor.setupViewObservations()
        self.editor.installKeyboardShortcuts()
        for keys, act in (
            ("Ctrl+Shift+L", self.prelabel.ui.prelabelButton.click),
            ("Ctrl+Return", self.submit.submit),
            ("Ctrl+Shift+K", self.submit.skip),
        ):
            shortcut = qt.QShortcut(qt.QKeySequence(keys), self.parent)
            shortcut.activated.connect(act)
            self.shortcuts.append(shortcut)
        self.refresh()

    def exit(self) -> None:
        self.editor.setActiveEffectByName("")
        self.editor.uninstallKeyboardShortcuts()
        self.editor.removeViewObservations()
        for shortcut in self.shortcuts:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self.shortcuts = []

    def cleanup(self) -> None:
        self.exit()
        self.desk.logic.pump.stop()
        self.removeObservers()


class DiNODiffusionTest(ScriptedLoadableModuleTest):
    """For a person with the real application: Reload and Test, or `--testing`. Needs no server."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        from DiNODiffusionLib import selftest

        for test in selftest.TESTS:
            self.setUp()
            self.delayDisplay(test.__doc__)
            test(self)
        self.delayDisplay("All tests passed")
