"""The worklist from its first image to its last: learn, submit, skip, and what happens without a server."""

from __future__ import annotations

import shutil

import numpy as np
from DiNODiffusionLib.codec import files

from tests.slicer.bench import Bench, as_file
from tests.slicer.drawn import chest
from tests.slicer.fake_server import FakeServer
from tests.slicer.places import EXTENSION


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


def test_that_an_image_shows_none_is_taught_and_handed_in(connected: Bench, server: FakeServer) -> None:
    from DiNODiffusionLib.scene import segments

    fill(server, 1)
    image, learn, submit = connected.widget.image, connected.widget.learn, connected.widget.submit
    connected.click(image.ui.nextButton)
    connected.wait()
    drawn = chest(seed=0) > 2650
    bone = connected.draw("bone", drawn)

    def press(button: object, mask: np.ndarray) -> None:
        segments.set_mask(connected.desk.segmentation, bone, mask, connected.desk.volume)
        connected.click(button)
        connected.wait()

    press(learn.ui.absentButton, drawn)
    assert "bone is not empty" in connected.said and server.state.labels == {}
    press(learn.ui.learnButton, np.zeros_like(drawn))
    assert "bone is empty" in connected.said and server.state.labels == {}
    press(learn.ui.absentButton, np.zeros_like(drawn))
    assert "Learnt, version 1" in connected.said
    assert not files.decode(server.state.labels["image0"]["final"]).array.any()
    connected.draw("rib", drawn)
    press(submit.ui.submitButton, np.zeros_like(drawn))
    press(submit.ui.submitButton, drawn)
    told = [params["label_absent"] for params in server.state.label_params]
    assert told == [["bone"], ["bone"], [], []], "for as long as the segment is empty; two layers at last"


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
    from DiNODiffusionLib.scene import segments

    fill(server, 1)
    image, submit = connected.widget.image, connected.widget.submit
    connected.click(image.ui.nextButton)
    connected.wait()
    drawn = chest(seed=0) > 2650
    connected.draw("bone", drawn)
    segments.mark_absent(connected.desk.segmentation, connected.draw("rib", np.zeros_like(drawn)))

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
    assert server.state.label_params[-1]["label_absent"] == ["rib"]
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
