"""Candidates: what is asked for, how they are compared, what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.slicer.bench import Bench
from tests.slicer.drawn import chest
from tests.slicer.fake_server import FakeServer


def paint(bench: Bench) -> np.ndarray:
    """Candidates inside a drawn box, with a kept stripe; gives the box without the stripe."""
    bench.load(chest())
    box, stripe = np.zeros(chest().shape, bool), np.zeros(chest().shape, bool)
    box[0, 30:60, 20:50] = stripe[0, 40:44, :] = True
    kept = bench.draw("stripe", stripe)
    bench.draw("lesion", box)
    bench.desk.parameters.set("keep", [kept])
    variants = bench.widget.variants
    variants.show_state()
    variants.weights["effusion"].setValue(0.5)
    bench.click(variants.ui.generateButton)
    bench.wait()
    return box & ~stripe


def test_candidates_are_compared_and_kept(connected: Bench, server: FakeServer, pictures: Path) -> None:
    changed = paint(connected)
    gallery = connected.widget.variants.gallery
    asked = server.state.jobs["j1"].asked["params"]
    assert asked["concept"] == "effusion:0.5" and asked["candidates"] == 4
    assert len(gallery.thumbnails) == 4
    connected.click(gallery.thumbnails[2])
    connected.shoot(pictures / "gallery.png", connected.widget.variants.widget)
    original = connected.slicer.util.arrayFromVolume(connected.desk.volume).copy()
    volume = connected.desk.volume
    connected.click(gallery.keep_button)
    kept = connected.slicer.util.getFirstNodeByName("chest effusion:0.5 3", "vtkMRMLScalarVolumeNode")
    array = connected.slicer.util.arrayFromVolume(kept)
    assert (
        np.array_equal(array[~changed], original[~changed])
        and (array[changed] == original[changed] + 102).all()
    )
    assert np.array_equal(connected.slicer.util.arrayFromVolume(volume), original)
    assert "Kept as" in gallery.said.text
    nodes = connected.slicer.mrmlScene.GetNumberOfNodes()
    connected.click(gallery.undo_button)
    assert connected.slicer.mrmlScene.GetNumberOfNodes() < nodes
    for name in ("chest effusion:0.5 3", "chest effusion:0.5 3 labels", "chest effusion:0.5 3 recipe"):
        assert connected.slicer.mrmlScene.GetFirstNodeByName(name) is None


def test_swipe_and_difference_show_what_changed(connected: Bench) -> None:
    changed = paint(connected)[0]
    gallery = connected.widget.variants.gallery
    gallery.swipe.setValue(0)
    after = gallery.image()
    gallery.swipe.setValue(100)
    before = gallery.image()
    differ = (before != after).any(axis=2)
    assert not differ[~changed].any() and differ[changed].mean() > 0.9, "but for what the window saturates"
    gallery.mode.setCurrentText("Difference")
    picture = gallery.image().astype(int)
    assert (picture[changed][:, 0] > picture[changed][:, 2]).mean() > 0.9, "brighter is red"
    outside = picture[~changed]
    assert (outside == outside[:, :1]).all(), "the rest stays grey"


def test_an_empty_or_wholly_kept_mask_is_explained(connected: Bench) -> None:
    connected.load(chest())
    connected.draw("empty", np.zeros(chest().shape, bool))
    connected.click(connected.widget.variants.ui.generateButton)
    connected.wait()
    assert "edit mask is empty" in connected.said


def test_whole_variants_need_no_mask(connected: Bench) -> None:
    connected.load(chest())
    variants = connected.widget.variants
    variants.ui.taskBox.setCurrentIndex(1)
    connected.click(variants.ui.generateButton)
    connected.wait()
    assert "whole picture is new" in variants.gallery.said.text and len(variants.gallery.thumbnails) == 4
