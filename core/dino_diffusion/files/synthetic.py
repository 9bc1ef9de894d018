"""How a file says that this package made or changed it: one JSON document under one name."""

from __future__ import annotations

import json
from typing import Any

KEY = "DiNO-Diffusion"
"""PNG text keyword, NRRD and MHA key, DICOM private creator, first words of a NIfTI description."""


def to_text(synthetic: dict[str, Any]) -> str:
    """One line of ASCII, so that it fits every header. Raises TypeError for what JSON cannot hold."""
    return json.dumps(synthetic, sort_keys=True)


def from_text(text: str | None) -> dict[str, Any] | None:
    """The document, or None where the text is none of ours."""
    try:
        document = json.loads(text) if text else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
