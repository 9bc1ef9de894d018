"""Doubles of what no package registry has: PythonQt's `qt` and `ctk`, qMRML widgets, the application object.

MRML, segmentations, terminologies, `slicer.util` and the slice views are the real ones of slicer-core.
`start()` puts
the doubles in place, once a process.
"""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

_started: list[SimpleNamespace] = []


def start() -> SimpleNamespace:
    """Makes `import slicer, qt, ctk` work as inside Slicer; gives core and Qt application."""
    if not _started:
        _keep_none()
        from . import application, ctk_widgets, effects, pythonqt, qmrml, scripted

        qt = pythonqt.install()
        core = application.boot(qt)
        ctk_widgets.install()
        qmrml.install()
        scripted.install()
        effects.install()
        _started.append(SimpleNamespace(core=core, qt=qt, app=application.qt_application()))
    return _started[0]


def _keep_none() -> None:
    """PySide6 6.12 gives up a reference to None with each call that returns nothing.

    Since Python 3.12 None cannot die; before, some ten thousand calls would end the process.
    """
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40
