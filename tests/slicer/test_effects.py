"""The two effects on the real editor logic: clicks in a slice view, masking, overwriting, undo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.slicer.bench import EffectBench
from tests.slicer.drawn import chest
from tests.slicer.fake_server import FakeServer, lungs_of


@pytest.fixture
def lobes(server: FakeServer) -> Iterator[EffectBench]:
    made = EffectBench(server, "SegmentEditorLungLobes", chest())
    made.activate()
    yield made
    made.desk.editor.setActiveEffectByName("")
    made.close()


@pytest.fixture
def inpaint(server: FakeServer) -> Iterator[EffectBench]:
    made = EffectBench(server, "SegmentEditorDiffusionInpaint", chest())
    made.draw("lesion", box())
    made.activate()
    yield made
    made.desk.editor.setActiveEffectByName("")
    made.close()


def box() -> np.ndarray:
    mask = np.zeros(chest().shape, bool)
    mask[0, 30:60, 20:50] = True
    return mask


def lungs() -> np.ndarray:
    from DiNODiffusionLib.codec.geometry import Image

    return lungs_of(Image(chest(), np.eye(4)))


# Lung lobes


def test_one_click_labels_both_fields_and_one_undo_takes_them_back(
    lobes: EffectBench, pictures: Path
) -> None:
    lobes.click(lobes.effect.label_button)
    lobes.wait_effect()
    assert lobes.effect.busy.status.text.startswith("Labelled right lung, left lung")
    for value, name in ((1, "right lung"), (2, "left lung")):
        assert np.array_equal(lobes.masks()[name], lungs() == value)
    lobes.shoot_effect(pictures / "effect-lung-lobes.png")
    lobes.desk.editor.undo()
    assert lobes.masks() == {}


def test_masking_holds_the_labels_inside_a_segment(lobes: EffectBench) -> None:
    room = lobes.draw("room", box())
    lobes.node.SetMaskMode(lobes.slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    lobes.node.SetMaskSegmentID(room)
    lobes.click(lobes.effect.label_button)
    lobes.wait_effect()
    assert np.array_equal(lobes.masks()["right lung"], (lungs() == 1) & box())
    assert np.array_equal(lobes.masks()["room"], box())


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_segments_are_overwritten_only_when_the_editor_says_so(
    lobes: EffectBench, overwrite: bool
) -> None:
    lobes.draw("tube", box())
    node = lobes.node
    node.SetOverwriteMode(node.OverwriteAllSegments if overwrite else node.OverwriteNone)
    lobes.click(lobes.effect.label_button)
    lobes.wait_effect()
    expected = box() & (lungs() == 0) if overwrite else box()
    assert np.array_equal(lobes.masks()["tube"], expected)


def test_a_region_is_shown_under_the_pointer_and_taken_by_a_click(lobes: EffectBench, pictures: Path) -> None:
    lobes.draw("mine", np.zeros(chest().shape, bool))
    lobes.click(lobes.effect.regions_button)
    lobes.wait_effect()
    regions = lobes.effect.regions
    assert "regions" in lobes.effect.busy.status.text and len(np.unique(regions)) > 4
    row, column = 50, 25
    under = regions == regions[0, row, column]
    lobes.pointer("MouseMoveEvent", row, column)
    from DiNODiffusionLib.scene import segments

    shown = segments.mask_of(lobes.effect.preview, "preview", lobes.volume)
    assert np.array_equal(shown, under)
    lobes.shoot_effect(pictures / "effect-regions.png")
    assert not lobes.masks()["mine"].any(), "hovering changes nothing"
    assert lobes.pointer("LeftButtonPressEvent", row, column)
    assert np.array_equal(lobes.masks()["mine"], under)
    assert lobes.pointer("LeftButtonPressEvent", 80, 60)
    assert np.array_equal(lobes.masks()["mine"], under | (regions == regions[0, 80, 60]))
    lobes.pointer("LeftButtonPressEvent", row, column, shift=True)
    assert np.array_equal(lobes.masks()["mine"], regions == regions[0, 80, 60])
    lobes.desk.editor.undo()
    lobes.desk.editor.undo()
    assert np.array_equal(lobes.masks()["mine"], under)


def test_the_granularity_slider_asks_again(lobes: EffectBench, server: FakeServer) -> None:
    lobes.click(lobes.effect.regions_button)
    lobes.wait_effect()
    coarse = len(np.unique(lobes.effect.regions))
    lobes.effect.granularity.setValue(0.9)
    lobes.wait_effect()
    assert len(np.unique(lobes.effect.regions)) > coarse
    assert lobes.cpp.doubleParameter("Granularity") == 0.9, "kept in the scene"
    server.state.job_seconds = 0.2
    for value in (0.8, 0.7, 0.2):
        lobes.effect.granularity.setValue(value)
    lobes.wait_effect()
    assert server.state.jobs[f"j{len(server.state.jobs)}"].asked["params"] == {
        "result_extension": ".nrrd", "granularity": 0.2
    }, "the last place of the slider counts"  # fmt: skip
    assert [path for _, path in server.state.seen].count("/session/") == 1


def test_a_pointer_outside_the_image_does_nothing(lobes: EffectBench) -> None:
    lobes.click(lobes.effect.regions_button)
    lobes.wait_effect()
    assert not lobes.pointer("LeftButtonPressEvent", -30, -30)
    assert lobes.masks() == {}


def test_leaving_the_effect_takes_the_preview_away(lobes: EffectBench) -> None:
    lobes.click(lobes.effect.regions_button)
    lobes.wait_effect()
    lobes.pointer("MouseMoveEvent", 50, 25)
    preview = lobes.effect.preview
    assert not preview.GetSaveWithScene() and preview.GetHideFromEditors()
    lobes.desk.editor.setActiveEffectByName("")
    assert not lobes.slicer.mrmlScene.IsNodePresent(preview)


def test_cancel_and_a_changed_segmentation(lobes: EffectBench, server: FakeServer) -> None:
    server.state.job_seconds = 30
    lobes.click(lobes.effect.label_button)
    lobes.wait(lambda: server.state.jobs)
    lobes.click(lobes.effect.busy.cancel_button)
    assert "Cancelled" in lobes.effect.busy.status.text
    server.state.job_seconds = 0.3
    lobes.wait_effect()
    lobes.click(lobes.effect.label_button)
    lobes.slicer.mrmlScene.RemoveNode(lobes.segmentation)
    lobes.wait_effect()
    assert "meanwhile" in lobes.effect.busy.status.text


def test_help_says_plainly_what_a_frontal_film_shows(lobes: EffectBench) -> None:
    said = " ".join(lobes.effect.helpText().split())
    assert "lobes overlap" in said and "fields" in said and "zones" in said
    for key in ("Left click", "Shift + left click", "Esc", "Ctrl+Z"):
        assert key in said
    assert lobes.cpp.name == "Lung lobes", "the name is never translated"


def test_without_a_server_the_effect_says_where_to_connect(lobes: EffectBench) -> None:
    lobes.desk.editor.setActiveEffectByName("")
    lobes.desk.logic.disconnect()
    lobes.activate()
    assert "connect to a server first" in lobes.effect.busy.status.text
    assert not lobes.effect.label_button.enabled


# Diffusion inpaint


def choose(bench: EffectBench, **values: object) -> SimpleNamespace:
    bench.effect.concept.setCurrentText("effusion")
    bench.effect.candidates.setValue(2)
    bench.effect.candidates.editingFinished.emit()
    return SimpleNamespace(**values)


def test_painting_makes_a_new_volume_and_leaves_the_original(
    inpaint: EffectBench, server: FakeServer, pictures: Path
) -> None:
    stripe = np.zeros(chest().shape, bool)
    stripe[0, 40:44] = True
    kept = inpaint.draw("stripe", stripe)
    lesion = next(key for key in inpaint.desk.segmentation.GetSegmentation().GetSegmentIDs() if key != kept)
    inpaint.desk.editor.setCurrentSegmentID(lesion)
    inpaint.cpp.setParameter("Keep", kept)
    choose(inpaint)
    inpaint.effect.updateGUIFromMRML()
    inpaint.click(inpaint.effect.paint_button)
    inpaint.wait_effect()
    asked = server.state.jobs["j1"].asked["params"]
    assert (asked["concept"], asked["candidates"], asked["feather_mm"]) == ("effusion:1", 2, 4.0)
    inpaint.shoot_effect(pictures / "effect-inpaint.png")
    original = inpaint.slicer.util.arrayFromVolume(inpaint.volume).copy()
    before = inpaint.masks()
    inpaint.click(inpaint.effect.gallery.keep_button)
    made = inpaint.slicer.util.getFirstNodeByName("chest effusion 1", "vtkMRMLScalarVolumeNode")
    array = inpaint.slicer.util.arrayFromVolume(made)
    changed = box() & ~stripe
    assert np.array_equal(array[~changed], original[~changed]) and (array != original)[changed].all()
    assert np.array_equal(inpaint.slicer.util.arrayFromVolume(inpaint.volume), original)
    after = inpaint.masks()
    assert list(after) == list(before) and all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("in_place", [False, True])
def test_the_views_show_the_new_volume_on_request_only(inpaint: EffectBench, in_place: bool) -> None:
    choose(inpaint)
    inpaint.effect.in_place.setChecked(in_place)
    inpaint.click(inpaint.effect.paint_button)
    inpaint.wait_effect()
    inpaint.click(inpaint.effect.gallery.keep_button)
    made = inpaint.slicer.util.getFirstNodeByName("chest effusion 1", "vtkMRMLScalarVolumeNode")
    shown = inpaint.view.sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID()
    assert shown == (made if in_place else inpaint.volume).GetID()


def test_settings_live_in_the_scene(inpaint: EffectBench) -> None:
    inpaint.effect.strength.setValue(0.4)
    inpaint.effect.concept.setCurrentText("healthy")
    assert inpaint.cpp.doubleParameter("Strength") == 0.4 and inpaint.cpp.parameter("Concept") == "healthy"
    inpaint.cpp.setParameter("Strength", 0.6)
    assert abs(inpaint.effect.strength.value - 0.6) < 1e-6


def test_a_clone_is_an_effect_of_its_own(inpaint: EffectBench, lobes: EffectBench) -> None:
    for bench, name in ((inpaint, "Diffusion inpaint"), (lobes, "Lung lobes")):
        cloned = bench.effect.clone()
        assert cloned.name == name and cloned.self() is not bench.effect
        assert not cloned.icon().isNull()
