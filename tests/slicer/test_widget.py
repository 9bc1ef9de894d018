"""The panel, driven by clicks and keys: what is sent, what appears, and what stays as it was."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtCore, QtTest

from tests.slicer.bench import Bench
from tests.slicer.drawn import chest
from tests.slicer.fake_server import TOKEN, FakeServer, lungs_of


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
