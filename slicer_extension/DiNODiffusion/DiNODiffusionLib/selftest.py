"""What a person with the real application lets run: the parts that no test double can vouch for."""

from __future__ import annotations

import time
import unittest

import numpy as np
import qt
import slicer

from .codec import png
from .codec.geometry import Image
from .net import client
from .net.address import Address
from .net.errors import Unreachable
from .net.pump import Pump
from .net.tasks import Task
from .net.transport import Transport
from .panels.panel import pixmap
from .scene import segments, volumes
from .scene.labels import labels_of

GRID = np.diag([-0.2, -0.2, 1.0, 1.0])


def drawn() -> Image:
    """Two dark fields in a bright one."""
    picture = np.full((1, 96, 80), 2600, np.uint16)
    picture[0, 20:76, 10:34] = picture[0, 20:76, 46:70] = 700
    return Image(picture, GRID)


def labels_become_segments(test: unittest.TestCase) -> None:
    """Labels become segments, others stay, the editor undoes it"""
    volume = volumes.add_volume(drawn(), "drawn")
    segmentation = segments.segmentation_for(volume)
    mine = segments.add_empty(segmentation, segments.label_named("mine"))
    segments.set_mask(segmentation, mine, drawn().array > 1000, volume)
    widget = slicer.modules.DiNODiffusionWidget
    widget.desk.choose_volume(volume)
    widget.desk.before_change()
    array = (drawn().array < 1000).astype(np.uint8)
    labels = labels_of({"label_names": {"right lung": 1}}, array)
    made = segments.add_labels(segmentation, volume, array, labels)
    test.assertTrue(np.array_equal(segments.mask_of(segmentation, made[0], volume), array > 0))
    test.assertTrue(np.array_equal(segments.mask_of(segmentation, mine, volume), array == 0))
    widget.editor.undo()
    test.assertEqual(segments.segment_ids(segmentation), [mine])


def pictures_reach_qt(test: unittest.TestCase) -> None:
    """PNG bytes become a pixmap (PythonQt converts them)"""
    made = pixmap(png.encode(np.zeros((5, 7), np.uint8)))
    test.assertEqual((made.width(), made.height()), (7, 5))


def a_refused_connection_is_a_sentence(test: unittest.TestCase) -> None:
    """Nobody at the address: a sentence, and the window ticked meanwhile"""
    pump, got, ticks = Pump(), [], []
    clock = qt.QTimer()
    clock.setInterval(10)
    clock.timeout.connect(lambda: ticks.append(1))
    clock.start()
    transport = Transport(Address.parse("127.0.0.1:9"), connect_seconds=3)
    pump.start(Task(client.describe(), transport, got.append, got.append))
    until = time.monotonic() + 10
    while not got and time.monotonic() < until:
        slicer.app.processEvents()
    clock.stop()
    test.assertIsInstance(got[0], Unreachable)
    test.assertTrue(ticks)


def every_section_is_there(test: unittest.TestCase) -> None:
    """The .ui files load with the real widgets, and both effects are registered"""
    widget = slicer.modules.DiNODiffusionWidget
    test.assertEqual(len(widget.panels), 6)
    for name in ("Lung lobes", "Diffusion inpaint"):
        test.assertIsNotNone(widget.editor.effectByName(name), name)


TESTS = (
    every_section_is_there,
    pictures_reach_qt,
    a_refused_connection_is_a_sentence,
    labels_become_segments,
)
