"""The whole way with the real server and the default model: nothing is faked but Qt's and Slicer's windows.

Connect, load, pre-label, correct, learn, next image pre-labelled with it, paint, keep, submit; then the
label on the
server
equals the segment in the scene, voxel for voxel. Pictures of each step go to out/slicer.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from DiNODiffusionLib.net import client
from DiNODiffusionLib.net.tasks import run

from tests.slicer.bench import Bench, EffectBench, stored_label
from tests.slicer.drawn import SAMPLES, sample, write_dicom
from tests.slicer.places import REPOSITORY

PROGRAM = REPOSITORY / ".venv" / "bin" / "dino-diffusion"
START_SECONDS, WORK_SECONDS = 120, 240


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The server of the project in a process of its own, on three synthetic radiographs."""
    folder = tmp_path_factory.mktemp("real")
    studies, log = folder / "studies", folder / "server.log"
    studies.mkdir()
    for number in (1, 2):
        shutil.copy(SAMPLES / f"synthetic-{number}.png", studies / f"chest-{number}.png")
    # The third as a detector would store it: 12 bits, bright is dark.
    write_dicom(studies / "chest-3.dcm", sample(3).astype(np.uint16) * 16, inverted=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    command = [PROGRAM, "serve", "--studies", studies, "--port", port, "--state", folder / "state"]
    with log.open("w") as written:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=written, stderr=subprocess.STDOUT, env=environment
        )
    try:
        token = None
        until = time.monotonic() + START_SECONDS
        while not token or not listens(port):
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            found = re.search(r"Token:\s*(\S+)", log.read_text())
            token = found[1] if found else None
            time.sleep(0.2)
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", token=token, log=log, process=process)
    finally:
        process.terminate()
        process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def correct(mask: np.ndarray) -> np.ndarray:
    """What a person paints: the field grows by a few rows at its lower end."""
    grown = mask.copy()
    for _ in range(4):
        grown[:, 1:] |= grown[:, :-1]
    return grown


def test_the_whole_way(real: SimpleNamespace, bench: Bench, pictures: Path) -> None:
    from DiNODiffusionLib.scene import segments, volumes

    widget, desk = bench.widget, bench.desk
    bench.connect(real, token=real.token)
    assert bench.said.startswith("Connected"), bench.said
    bench.shoot(pictures / "1-connected.png")
    info = desk.logic.info
    assert info.own and info.has("inpaint") and info.concepts

    # The first image of the worklist; the second is not prepared yet, because it shall know what is learnt.
    widget.image.ui.aheadCheck.setChecked(False)
    widget.image.ui.strategyBox.setCurrentText("first")
    bench.click(widget.image.ui.nextButton)
    bench.wait(seconds=WORK_SECONDS)
    first = desk.volume
    assert first is not None and first.GetName().startswith("chest-"), bench.said
    bench.click(widget.prelabel.ui.prelabelButton)
    bench.wait(seconds=WORK_SECONDS)
    made = bench.masks()
    assert {"right lung", "left lung"} <= set(made), bench.said
    columns = {name: np.nonzero(made[name])[2].mean() for name in ("right lung", "left lung")}
    assert columns["right lung"] < columns["left lung"], "the patient's right is on the left of the picture"
    bench.shoot(pictures / "2-prelabelled.png", crop=True)

    # A correction, and a structure of one's own, learnt from this example.
    right = next(key for key in segments.segment_ids(desk.segmentation)
                 if segments.name_of(desk.segmentation, key) == "right lung")  # fmt: skip
    corrected = correct(made["right lung"]) & ~made["left lung"]
    segments.set_mask(desk.segmentation, right, corrected, first)
    lungs = made["right lung"] | made["left lung"]
    rows, middle = np.nonzero(lungs)[1], lungs.shape[2] // 2
    heart = np.zeros_like(lungs)
    top, bottom = int(np.quantile(rows, 0.55)), int(rows.max())
    heart[0, top:bottom, middle - lungs.shape[2] // 16 : middle + lungs.shape[2] // 6] = True
    heart &= ~(corrected | made["left lung"])
    bench.draw("heart", heart)
    bench.shoot(pictures / "3-corrected.png")
    bench.click(widget.learn.ui.learnButton)
    bench.wait(seconds=WORK_SECONDS)
    assert "Learnt, version 1" in bench.said, bench.said
    assert desk.parameters.get("embeddings") == ["heart"]

    # The label on the server equals the segments of the scene, voxel for voxel.
    image = volumes.server_image(first, desk.logic.server)
    content = run(stored_label(image, "final"), desk.logic.transport)
    stored = volumes.onto(first, volumes.read_image(content, "label.nrrd"))
    masks = bench.masks()
    for layer in segments.layers_of(desk.segmentation, first, segments.segment_ids(desk.segmentation)):
        assert len(layer.names) == 3, "nothing overlaps here"
        for name, value in layer.names.items():
            assert np.array_equal(stored == value, masks[name]), name
    assert np.array_equal(masks["right lung"], corrected)

    # The next image comes pre-labelled with what was learnt, prepared while this one was edited.
    widget.image.ui.aheadCheck.setChecked(True)
    widget.image.prepare()
    bench.wait(lambda: widget.image.ahead is not None, WORK_SECONDS)
    bench.click(widget.image.ui.nextButton)
    bench.wait(seconds=WORK_SECONDS)
    second = desk.volume
    assert second is not first and {"right lung", "left lung"} <= set(bench.masks()), bench.said
    assert "heart" in bench.masks(), "the learnt segment was found"
    bench.shoot(pictures / "4-next-image.png")

    # Painting inside a drawn area: two candidates, one kept.
    left = bench.masks()["left lung"]
    rows, columns_ = np.nonzero(left)[1:]
    lesion = np.zeros_like(left)
    lesion[0, int(np.quantile(rows, 0.7)) : int(rows.max()), int(columns_.min()) : int(columns_.max())] = True
    lesion &= left
    bench.draw("lesion", lesion)
    variants = widget.variants
    name = next(iter(variants.weights))
    variants.weights[name].setValue(1.0)
    variants.ui.candidatesBox.setValue(2)
    variants.ui.candidatesBox.editingFinished.emit()
    bench.click(variants.ui.generateButton)
    bench.wait(seconds=WORK_SECONDS)
    assert len(variants.gallery.candidates) == 2, bench.said
    bench.shoot(pictures / "5-painted.png", variants.widget)
    original = bench.slicer.util.arrayFromVolume(second).copy()
    kept = variants.gallery.keep()
    array = bench.slicer.util.arrayFromVolume(kept)
    painted = variants.gallery.candidates[0].mask
    assert np.array_equal(array[~painted], original[~painted]), "bit-identical outside"
    assert (array != original)[painted].any() and not (painted & ~lesion).any()
    assert kept.GetAttribute("DiNODiffusion.recipe")

    # Submit and go on.
    segments_before = bench.masks()
    bench.click(widget.submit.ui.submitButton)
    bench.wait(lambda: desk.volume is not second and not desk.busy.running, WORK_SECONDS)
    image = volumes.server_image(second, desk.logic.server)
    segmentation = next(node for node in bench.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
                        if node.GetName() == second.GetName() + " labels")  # fmt: skip
    layers = segments.layers_of(segmentation, second, segments.segment_ids(segmentation))
    for number, layer in enumerate(layers, start=1):
        tag = "final" if number == 1 else f"final_{number}"
        content = run(stored_label(image, tag), desk.logic.transport)
        stored = volumes.onto(second, volumes.read_image(content, "label.nrrd"))
        for label, value in layer.names.items():
            assert np.array_equal(stored == value, segments_before[label]), label
    assert sum(len(layer.names) for layer in layers) == len(segments_before)
    bench.shoot(pictures / "6-submitted.png")
    assert {"right lung", "left lung"} <= set(bench.masks()), f"{desk.volume.GetName()}: {bench.said}"

    # The third is MONOCHROME1: shown, labelled and painted the way it is seen.
    third, seen = desk.volume, volumes.image_of(desk.volume).array
    assert np.array_equal(seen, sample(3).astype(np.uint16) * 16)
    bench.draw("lesion", bench.masks()["left lung"])
    variants.ui.candidatesBox.setValue(1)
    bench.click(variants.ui.generateButton)
    bench.wait(seconds=WORK_SECONDS)
    assert len(variants.gallery.candidates) == 1, bench.said
    candidate = variants.gallery.candidates[0]
    assert candidate.untouched(seen) and (candidate.array != seen).any()
    assert third is desk.volume

    # No heart is to be seen here, says the annotator; the image is the third, so it is kept back and judges.
    heart_ = next(key for key in segments.segment_ids(desk.segmentation)
                  if segments.name_of(desk.segmentation, key) == "heart")  # fmt: skip
    segments.set_mask(desk.segmentation, heart_, np.zeros_like(heart), third)
    desk.editor.setCurrentSegmentID(heart_)
    bench.click(widget.learn.ui.absentButton)
    bench.wait(seconds=WORK_SECONDS)
    assert "version 2" in bench.said and "Dice" in bench.said, bench.said


def test_cancelling_a_generation_frees_the_server(real: SimpleNamespace, bench: Bench) -> None:
    bench.connect(real, token=real.token)
    bench.load(sample(2), name="opened")
    variants = bench.widget.variants
    variants.ui.taskBox.setCurrentIndex(1)
    bench.click(variants.ui.generateButton)
    bench.wait(lambda: bench.desk.busy.bar.value > 0, WORK_SECONDS)
    bench.click(bench.desk.busy.cancel_button)
    assert "Cancelled" in bench.said

    def jobs() -> list[str]:
        listed = run(client.ask_json(client.Request("GET", "/jobs")), bench.desk.logic.transport)
        return [job["state"] for job in listed]

    until = time.monotonic() + WORK_SECONDS
    while not jobs() or "running" in jobs() or "queued" in jobs():
        assert time.monotonic() < until
        bench.double.app.processEvents()
    assert "cancelled" in jobs()


def test_the_stock_routes_label_the_same(real: SimpleNamespace, bench: Bench) -> None:
    """The way any MONAI Label server is used: one /infer, no jobs, NIfTI."""
    bench.connect(real, token=real.token)
    bench.load(sample(2), name="opened")
    bench.click(bench.widget.prelabel.ui.prelabelButton)
    bench.wait(seconds=WORK_SECONDS)
    by_job = bench.masks()
    assert {"right lung", "left lung"} <= set(by_job), bench.said
    bench.slicer.mrmlScene.Clear(0)
    bench.desk.logic.info.own = False
    bench.load(sample(2), name="opened again")
    bench.click(bench.widget.prelabel.ui.prelabelButton)
    bench.wait(seconds=WORK_SECONDS)
    by_infer = bench.masks()
    assert list(by_infer) == list(by_job), bench.said
    assert all(np.array_equal(by_infer[name], by_job[name]) for name in by_job)


def test_the_lung_lobes_effect(real: SimpleNamespace, pictures: Path) -> None:
    """Zones by one click and a region by the pointer, on an image that was opened here."""
    made = EffectBench(real, "SegmentEditorLungLobes", sample(1), real.token)
    try:
        made.activate()
        made.effect.what.setCurrentText("Zones")
        made.click(made.effect.label_button)
        made.wait_effect(WORK_SECONDS)
        zones = made.masks()
        assert {"right upper zone", "left lower zone"} <= set(zones), made.effect.busy.status.text
        made.shoot_effect(pictures / "7-zones.png")
        made.click(made.effect.regions_button)
        made.wait_effect(WORK_SECONDS)
        row, column = np.argwhere(zones["right middle zone"][0])[0]
        under = made.effect.regions == made.effect.regions[0, row, column]
        made.draw("mine", np.zeros_like(under))
        made.pointer("MouseMoveEvent", int(row), int(column))
        made.pointer("LeftButtonPressEvent", int(row), int(column))
        assert under.any() and np.array_equal(made.masks()["mine"], under)
        assert all(np.array_equal(made.masks()[name], zones[name]) for name in zones), "no other was touched"
    finally:
        made.desk.editor.setActiveEffectByName("")
        made.close()


def test_a_killed_server_ends_in_a_sentence_and_labels_stay_here(real: SimpleNamespace, bench: Bench) -> None:
    """The last test of this server: it is killed as if the power failed."""
    shutil.rmtree(bench.desk.logic.outbox.folder, ignore_errors=True)
    bench.connect(real, token=real.token)
    bench.load(sample(3), name="opened")
    bench.click(bench.widget.prelabel.ui.prelabelButton)
    real.process.kill()
    bench.wait(seconds=WORK_SECONDS)
    assert "server" in bench.said.lower() and bench.said.endswith((".", "?"))
    assert bench.desk.segmentation is None
    bench.draw("heart", sample(3) > 128)
    bench.click(bench.widget.submit.ui.submitButton)
    bench.wait(seconds=WORK_SECONDS)
    assert "saved on this machine" in bench.said
