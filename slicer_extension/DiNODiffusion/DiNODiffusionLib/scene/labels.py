"""What a label value means: name, standard codes, colour; and colours that can be told apart."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
ANATOMY = "Anatomic codes - DICOM master list"
CATEGORY = "SCT^123037004^Anatomical Structure"
SIDES = {"right": ("SCT", "24028007", "Right"), "left": ("SCT", "7771000", "Left")}
LUNG = ("SCT", "39607008", "Lung")
STRUCTURE = ("SCT", "123037004", "Anatomical Structure")
FAR_ENOUGH = 0.15
"""Distance of two colours in RGB, each in [0, 1], below which they look alike on a radiograph."""


@dataclass(frozen=True)
class Label:
    """One label value; `kind` and `side` are (scheme, code, meaning), `colour` RGB in [0, 1]."""

    name: str
    value: int
    kind: tuple[str, str, str] = STRUCTURE
    side: tuple[str, str, str] | None = None
    colour: tuple[float, float, float] | None = None

    @property
    def terminology(self) -> str:
        """The entry as Slicer stores it in a segment's tag."""
        side = "^".join(self.side) if self.side else "^^"
        return f"{CONTEXT}~{CATEGORY}~{'^'.join(self.kind)}~{side}~{ANATOMY}~^^~^^"


def side_of(name: str) -> tuple[str, str, str] | None:
    return SIDES.get(name.split()[0].lower()) if name.split() else None


def labels_of(params: dict, array: np.ndarray) -> list[Label]:
    """The labels of a result, in the order of their values, only those that occur in its pixels.

    The server's `labels` say everything; a stock server's `label_names` say name and value; a result without
    either is named by its values.
    """
    present = {int(value) for value in np.unique(array)} - {0}
    told = {}
    for entry in params.get("labels") or []:
        if isinstance(entry, dict) and "value" in entry:
            label = _told(entry)
            told[label.value] = label
    names = params.get("label_names") or {}
    for name, value in names.items() if isinstance(names, dict) else ():
        if isinstance(value, (int, float)) and int(value) not in told:
            told[int(value)] = named(str(name), int(value))
    return [told.get(value) or named(f"segment {value}", value) for value in sorted(present)]


def named(name: str, value: int) -> Label:
    """A label known by its name alone; what the name says of side and lung is coded."""
    words = name.lower().replace("_", " ").split()
    kind = LUNG if words and words[-1] in ("lung", "lungs") else STRUCTURE
    return Label(name.replace("_", " "), value, kind, side_of(name.replace("_", " ")))


def _told(entry: dict) -> Label:
    name = str(entry.get("name") or f"segment {entry['value']}")
    guess = named(name, int(entry["value"]))
    kind = guess.kind
    if entry.get("code"):
        kind = (str(entry.get("scheme") or "SCT"), str(entry["code"]), str(entry.get("meaning") or name))
    side = guess.side
    given = entry.get("laterality")
    if isinstance(given, dict) and (given.get("code") or given.get("value")):
        code = str(given.get("code") or given.get("value"))
        side = (str(given.get("scheme") or "SCT"), code, str(given.get("meaning") or code))
    colour = entry.get("colour")
    rgb = None
    if isinstance(colour, (list, tuple)) and len(colour) == 3:
        rgb = tuple(min(1.0, max(0.0, float(level) / 255)) for level in colour)
    return Label(name, guess.value, kind, side, rgb)


def distinct_colour(
    wanted: tuple[float, float, float] | None, taken: list[tuple[float, float, float]]
) -> tuple[float, float, float]:
    """`wanted` where it differs enough from those that are there, else the most different of a colour wheel.

    The standard colours of the lobes repeat left and right, so codes are kept and colours are not.
    """
    others = np.array(taken, float).reshape(-1, 3)

    def nearest(colour: tuple[float, float, float]) -> float:
        return float(np.linalg.norm(others - colour, axis=1).min()) if len(others) else 9.0

    if wanted is not None and nearest(wanted) >= FAR_ENOUGH:
        return wanted
    wheel = [
        colorsys.hsv_to_rgb(hue / 24, saturation, 0.95) for saturation in (0.85, 0.5) for hue in range(24)
    ]
    return max(wheel, key=nearest)
