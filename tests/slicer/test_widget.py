"""The panel, driven by clicks and keys: what is sent, what appears, and what stays as it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from DiNODiffusionLib.codec import files
from PySide6 import QtCore, QtTest

from tests.slicer.bench import Bench, as_file
from tests.slicer.conftest import EXTENSION
from tests.slicer.drawn import chest
from tests.slicer.fake_server import TOKEN, FakeServer, lungs_of


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def connected(bench: Bench, server: FakeServer) -> Bench:
    bench.connect(server)
    assert bench.said.startswith("Connected"), bench.said
    return bench


def lungs(array: np.ndarray) -> np.ndarray:
    from DiNODiffusionLib.codec.geometry import Image

    return lungs_of(Image(array, np.eye(4)))


# Connect


def test_connecting_says_what_the_server_is_and_remembers_it_without_the_token(
    connected: Bench, server: FakeServer
) -> None:
    info = connected.widget.connection.ui.infoLabel.text
    assert "Fake on CPU, 2 threads" in info and "label lungs and zones" in info
    store = connected.double.qt.QSettings.store
    assert store["DiNODiffusion/addresses"].split("\n")[0] == server.url
    assert TOKEN not in repr(store)


def test_the_token_is_nowhere_in_the_scene(connected: Bench, tmp_path: Path) -> None:
    connected.load(chest())
    scene = connected.slicer.mrmlScene
    path = tmp_path / "scene.mrml"
    assert scene.Commit(str(path))
    assert TOKEN not in path.read_text()


@pytest.mark.parametrize(
    ("address", "token", "words"),
    [("nonsense at all", TOKEN, "no address"), ("127.0.0.1:9", TOKEN, "No server answers"),
     (None, "wrong", "does not accept the token"), (None, "/no/such/file", "token file")],
)  # fmt: skip
def test_each_failure_to_connect_is_a_sentence(
    bench: Bench, server: FakeServer, address: str | None, token: str, words: str
) -> None:
    ui = bench.widget.connection.ui
    ui.addressBox.setCurrentText(address or server.url)
    ui.tokenEdit.setText(token)
    bench.click(ui.connectButton)
    bench.wait()
    assert words in bench.said and bench.said.endswith(".")
    assert not bench.desk.connected()


def test_the_token_file_of_a_server_on_this_machine(bench: Bench, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    bench.widget.connection.use_token_file(str(tmp_path / "token"))
    bench.connect(server, token=bench.widget.connection.ui.tokenEdit.text)
    assert bench.desk.connected()


def test_a_server_with_accounts_takes_name_and_password(bench: Bench, server: FakeServer) -> None:
    bench.connect(server, token="ann:wrong")
    assert not bench.desk.connected() and "does not accept" in bench.said
    bench.connect(server, token="ann:secret")
    assert bench.desk.connected()


def test_the_last_ten_servers_are_kept(bench: Bench) -> None:
    from DiNODiffusionLib import preferences

    for number in range(14):
        preferences.remember(f"http://server{number}:8000")
    assert len(preferences.addresses()) == 10 and preferences.addresses()[0] == "http://server13:8000"


def test_nothing_is_sent_before_a_button_is_pressed(connected: Bench, server: FakeServer) -> None:
    before = len(server.state.seen)
    connected.load(chest())
    connected.draw("nodule", chest() < 600)
    connected.wait(lambda: True)
    for _ in range(30):
        connected.double.app.processEvents()
        time.sleep(0.005)
    assert server.state.seen[before:] == []


# Pre-label


def test_pre_label_makes_segments_and_touches_no_other(
    connected: Bench, server: FakeServer, pictures: Path
) -> None:
    connected.load(chest())
    mine = np.zeros(chest().shape, bool)
    mine[0, 30:70, 10:70] = True
    connected.draw("tube", mine)
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    connected.wait()
    masks = connected.masks()
    assert list(masks) == ["tube", "right lung", "left lung"]
    assert np.array_equal(masks["tube"], mine)
    assert np.array_equal(masks["right lung"], lungs(chest()) == 1)
    assert np.array_equal(masks["left lung"], lungs(chest()) == 2)
    shown = connected.shoot(pictures / "prelabel.png")
    row, column = np.argwhere(masks["left lung"][0])[len(np.argwhere(masks["left lung"][0])) // 2]
    x, y = connected.view.place_of(connected.desk.volume, int(row), int(column))
    colour = shown[shown.shape[0] - 1 - y, x].astype(int)
    assert colour.max() - colour.min() > 20, "the segment is seen in its colour"
    connected.click(connected.widget.prelabel.ui.undoButton)
    assert list(connected.masks()) == ["tube"] and np.array_equal(connected.masks()["tube"], mine)


def test_an_image_is_sent_once(connected: Bench, server: FakeServer) -> None:
    connected.load(chest())
    for _ in range(3):
        connected.click(connected.widget.prelabel.ui.prelabelButton)
        connected.wait()
    assert [path for _, path in server.state.seen].count("/session/") == 1
    assert list(connected.masks()) == ["right lung", "left lung"]


def test_a_session_that_the_server_dropped_is_made_again(connected: Bench, server: FakeServer) -> None:
    connected.load(chest())
    for _ in range(2):
        connected.click(connected.widget.prelabel.ui.prelabelButton)
        connected.wait()
        assert "Labelled" in connected.said, connected.said
        server.state.sessions = {"later": b""}
    assert [path for _, path in server.state.seen].count("/session/") == 2


def test_the_shortcuts_work_while_the_module_is_open(connected: Bench) -> None:
    connected.load(chest())
    connected.widget.parent.show()
    connected.widget.parent.activateWindow()
    connected.double.app.processEvents()
    assert connected.widget.editor.shortcuts and len(connected.widget.shortcuts) == 3
    QtTest.QTest.keyClick(
        connected.widget.parent, QtCore.Qt.Key.Key_L,
        QtCore.Qt.KeyboardModifier.ControlModifier | QtCore.Qt.KeyboardModifier.ShiftModifier,
    )  # fmt: skip
    connected.wait(lambda: len(connected.masks()) == 2 if connected.desk.segmentation else False)
    connected.widget.exit()
    assert connected.widget.shortcuts == [] and not connected.widget.editor.shortcuts
    connected.widget.enter()


def test_cancel_changes_nothing_and_tells_the_server(connected: Bench, server: FakeServer) -> None:
    connected.load(chest())
    server.state.job_seconds = 60
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    connected.wait(lambda: server.state.jobs)
    connected.wait(lambda: not connected.desk.busy.preview.isHidden())
    assert connected.desk.busy.preview.pixmap.height() == 160 and "s left" in connected.said
    connected.click(connected.desk.busy.cancel_button)
    assert "Cancelled" in connected.said and connected.desk.segmentation is None
    connected.wait(lambda: server.state.cancelled == ["j1"])


@pytest.mark.parametrize("end", ["node", "scene", "other"])
def test_what_was_closed_meanwhile_ends_in_a_sentence(connected: Bench, server: FakeServer, end: str) -> None:
    volume = connected.load(chest())
    server.state.job_seconds = 0.5
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    connected.wait(lambda: server.state.jobs)
    if end == "node":
        connected.slicer.mrmlScene.RemoveNode(volume)
    elif end == "scene":
        connected.slicer.mrmlScene.Clear(0)
    else:
        connected.load(chest(seed=5), name="another")
    connected.wait()
    assert "meanwhile" in connected.said or "Cancelled" in connected.said
    assert connected.slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_server_killed_in_the_middle_ends_in_a_sentence(connected: Bench, server: FakeServer) -> None:
    connected.load(chest())
    server.state.job_seconds = 60
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    connected.wait(lambda: server.state.jobs)

    def dies(handler: object) -> bool:
        handler.close_connection = True
        return True

    server.state.fault = dies
    server.close()
    connected.wait()
    assert "No server answers" in connected.said or "closed the connection" in connected.said
    assert connected.desk.segmentation is None


def test_a_volume_with_slices_is_refused(connected: Bench) -> None:
    connected.load(np.zeros((4, 20, 20), np.uint8), name="ct")
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    connected.wait()
    assert "ct has 4 slices" in connected.said


def test_a_stock_monai_label_server_pre_labels_too(bench: Bench, server: FakeServer) -> None:
    server.state.stock = True
    bench.connect(server)
    assert "stock MONAI Label" in bench.widget.connection.ui.infoLabel.text
    bench.load(chest())
    bench.click(bench.widget.prelabel.ui.prelabelButton)
    bench.wait()
    assert np.array_equal(bench.masks()["right lung"], lungs(chest()) == 1)


# Worklist, learning, submitting


def fill(server: FakeServer, count: int = 3) -> dict[str, np.ndarray]:
    arrays = {f"image{number}": chest(seed=number) for number in range(count)}
    server.state.images.update({name: as_file(array) for name, array in arrays.items()})
    return arrays


def test_a_worklist_is_labelled_to_its_end(connected: Bench, server: FakeServer) -> None:
    arrays = fill(server)
    image, submit = connected.widget.image, connected.widget.submit
    connected.click(image.ui.nextButton)
    connected.wait()
    connected.wait(lambda: image.ahead is not None)
    assert image.ui.aheadLabel.text == "image1 is ready."
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    connected.wait()
    first = connected.masks()
    connected.click(submit.ui.submitButton)
    connected.wait()
    assert connected.desk.volume.GetName() == "image1", connected.said
    assert list(connected.masks()) == ["right lung", "left lung"], "it came with its labels"
    sent = files.decode(server.state.labels["image0"]["final"]).array
    for value, name in ((1, "right lung"), (2, "left lung")):
        assert np.array_equal(sent == value, first[name]), "voxel for voxel"
    connected.wait(lambda: image.ahead is not None)
    assert image.ui.countLabel.text == "1 of 3 labelled."
    labels = {node.GetName(): node.GetDisplayVisibility()
              for node in connected.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")}  # fmt: skip
    assert labels == {"image0 labels": 0, "image1 labels": 1}, (
        "only the labels of the image on the desk are seen"
    )
    submit.ui.reasonBox.setCurrentText("lateral view")
    connected.click(submit.ui.skipButton)
    connected.wait()
    assert server.state.skipped == {"image1": "lateral view"}
    assert connected.desk.volume.GetName() == "image2"
    assert np.array_equal(connected.slicer.util.arrayFromVolume(connected.desk.volume), arrays["image2"])
    connected.click(submit.ui.submitButton)
    connected.wait()
    assert "no image is left" in connected.said
    assert not [path for _, path in server.state.seen if path == "/session/"], (
        "the server's own images stay there"
    )


def test_learning_a_segment_and_finding_it_in_the_next_image(connected: Bench, server: FakeServer) -> None:
    arrays = fill(server, 2)
    image, learn = connected.widget.image, connected.widget.learn
    image.ui.aheadCheck.setChecked(False)
    connected.click(image.ui.nextButton)
    connected.wait()
    drawn = arrays["image0"] > 2650
    connected.draw("bone", drawn)
    assert learn.ui.segmentLabel.text == "bone"
    connected.click(learn.ui.learnButton)
    connected.wait()
    assert "Learnt, version 1" in connected.said
    sent = files.decode(server.state.labels["image0"]["final"]).array
    assert np.array_equal(sent == 16, drawn)
    connected.click(image.ui.nextButton)
    connected.wait()
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    connected.wait()
    expected = arrays["image1"] >= np.quantile(arrays["image1"], 0.9)
    assert np.array_equal(connected.masks()["bone"], expected)
    assert connected.desk.parameters.get("embeddings") == ["bone"]


def test_an_older_version_of_a_learnt_segment_is_used_again(connected: Bench, server: FakeServer) -> None:
    server.state.embeddings["bone"] = {
        "name": "bone",
        "active": 2,
        "versions": [{"version": 1}, {"version": 2}],
    }
    connected.connect(server)
    learn = connected.widget.learn
    assert (learn.ui.learntBox.currentText, learn.ui.versionBox.currentText) == ("bone", "2")
    learn.ui.versionBox.setCurrentText("1")
    connected.click(learn.ui.activateButton)
    connected.wait()
    assert server.state.embeddings["bone"]["active"] == 1 and learn.ui.versionBox.currentText == "1"


def test_labels_are_kept_on_this_machine_while_the_server_is_away(
    connected: Bench, server: FakeServer
) -> None:
    fill(server, 1)
    image, submit = connected.widget.image, connected.widget.submit
    connected.click(image.ui.nextButton)
    connected.wait()
    drawn = chest(seed=0) > 2650
    connected.draw("bone", drawn)

    def away(handler: object) -> bool:
        handler.close_connection = True
        return True

    server.state.fault = lambda handler: away(handler) if handler.command == "PUT" else False
    connected.click(submit.ui.submitButton)
    connected.wait()
    assert "saved on this machine" in connected.said and server.state.labels == {}
    server.state.fault = None
    connected.widget.refresh()
    assert submit.ui.waitingButton.text == "Hand in 1 saved labels"
    connected.click(submit.ui.waitingButton)
    connected.wait()
    assert np.array_equal(files.decode(server.state.labels["image0"]["final"]).array == 16, drawn)
    assert connected.desk.logic.outbox.waiting(server.url) == []


def test_an_image_of_ones_own_is_added_once_and_corrected(connected: Bench, server: FakeServer) -> None:
    for drawn in (chest() > 2650, chest() > 2600):
        connected.slicer.mrmlScene.Clear(0)
        connected.load(chest(), name="mine")
        connected.draw("bone", drawn)
        connected.click(connected.widget.submit.ui.submitButton)
        connected.wait()
        (name,) = server.state.images
        assert np.array_equal(files.decode(server.state.labels[name]["final"]).array == 16, drawn)


def test_the_self_tests_for_a_person_with_slicer_run_here_too(bench: Bench) -> None:
    """On the doubles they prove little; but they must not be broken when somebody runs them."""
    from tests.slicer.doubles.scripted import load_module

    for name in ("SegmentEditorLungLobes", "SegmentEditorDiffusionInpaint"):
        load_module(EXTENSION / name / f"{name}.py").module.register()
    bench.module.python.DiNODiffusionTest().runTest()


def test_labels_of_an_unconnected_day_arrive_with_their_image(bench: Bench, server: FakeServer) -> None:
    shutil.rmtree(bench.desk.logic.outbox.folder, ignore_errors=True)
    bench.load(chest(), name="Mrs X, 1.2")
    bench.draw("bone", chest() > 2650)
    bench.click(bench.widget.submit.ui.submitButton)
    assert "saved on this machine" in bench.said
    bench.connect(server)
    bench.click(bench.widget.submit.ui.waitingButton)
    bench.wait()
    (name,) = server.state.images
    assert name.startswith("Mrs-X--1-2-"), (
        "no character that a file system minds, and no two images of one name"
    )
    assert np.array_equal(files.decode(server.state.images[name]).array, chest())
    assert np.array_equal(files.decode(server.state.labels[name]["final"]).array == 16, chest() > 2650)


# Variants


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


# The scene


def test_a_saved_and_reopened_scene_continues(connected: Bench, tmp_path: Path) -> None:
    connected.load(chest())
    connected.draw("bone", chest() > 2650)
    variants = connected.widget.variants
    variants.ui.strengthSlider.setValue(0.35)
    variants.ui.seedBox.setValue(42)
    variants.ui.seedBox.editingFinished.emit()
    connected.widget.prelabel.ui.zonesCheck.setChecked(True)
    bundle = tmp_path / "scene.mrb"
    assert connected.double.core.io_manager.save_scene(str(bundle))
    connected.slicer.mrmlScene.Clear(0)
    assert connected.desk.volume is None and variants.ui.seedBox.value == 0
    connected.double.core.io_manager.load_scene(str(bundle))
    assert connected.desk.volume.GetName() == "chest"
    assert variants.ui.seedBox.value == 42 and abs(variants.ui.strengthSlider.value - 0.35) < 1e-6
    assert connected.widget.prelabel.ui.zonesCheck.checked
    assert np.array_equal(connected.masks()["bone"], chest() > 2650)


def test_only_one_thing_at_a_time(connected: Bench, server: FakeServer) -> None:
    connected.load(chest())
    server.state.job_seconds = 0.5
    connected.click(connected.widget.prelabel.ui.prelabelButton)
    assert not connected.widget.prelabel.ui.prelabelButton.enabled
    connected.widget.prelabel.prelabel()
    assert "still under way" in connected.said
    connected.wait()
    assert len(server.state.jobs) == 1
