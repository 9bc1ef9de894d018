"""The one connection of the application, which the module and both effects use."""

from __future__ import annotations

from pathlib import Path

import slicer

from .logic import Logic
from .net.pump import Pump

_logic: list[Logic] = []


def logic() -> Logic:
    """Made at the first call; nothing is sent before somebody connects."""
    if not _logic:
        settings = Path(slicer.app.slicerUserSettingsFilePath).parent
        _logic.append(Logic(Pump(), settings / "DiNODiffusion" / "outbox"))
    return _logic[0]
