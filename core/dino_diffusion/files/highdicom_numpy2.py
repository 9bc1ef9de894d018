"""highdicom 0.22 under numpy 2.

MONAI Label needs pydicom 2 and highdicom 0.22 is the last that lives with it; it was written before
numpy 2 took away two names. Only highdicom's own modules see them here; numpy itself stays as it is.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import highdicom.seg.sop
import highdicom.spatial
import numpy as np


class _Numpy(ModuleType):
    """numpy, with the names that version 2 has dropped."""

    float_ = np.float64
    row_stack = staticmethod(np.vstack)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def install() -> None:
    """Give highdicom the names it asks for; harmless when called again or under numpy 1."""
    for module in (highdicom.seg.sop, highdicom.spatial):
        vars(module)["np"] = _Numpy("numpy")
