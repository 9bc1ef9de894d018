"""Label values, names, standard codes and colours of what the library segments.

Codes are SNOMED CT as DICOM PS3.16 uses them (coding scheme `SCT`). On a frontal radiograph the anatomical
lobes overlap, so zones carry the code of the lobe that a reader would call them after: they are the part
of a lung field, not the lobe itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Code:
    """One concept of a coding scheme."""

    value: str
    meaning: str
    scheme: str = "SCT"


@dataclass(frozen=True)
class Segment:
    """What one label value stands for; `colour` is sRGB in 0..255, `mark` a short name for pictures."""

    value: int
    name: str
    mark: str
    kind: Code
    laterality: Code | None
    colour: tuple[int, int, int]


ANATOMICAL_STRUCTURE = Code("123037004", "Anatomical Structure")
RIGHT, LEFT = Code("24028007", "Right"), Code("7771000", "Left")
LUNG = Code("39607008", "Lung")
UPPER_LOBE = Code("45653009", "Upper lobe of lung")
MIDDLE_LOBE = Code("72481006", "Middle lobe of right lung")
LOWER_LOBE = Code("90572001", "Lower lobe of lung")

BACKGROUND, RIGHT_LUNG, LEFT_LUNG = 0, 1, 2
"""Right and left are the patient's; the right lung lies in the left half of a frontal picture."""

FIRST_LEARNT = 16
"""Label values from here on are segments learnt from a user's example."""

SEGMENTS: dict[int, Segment] = {
    segment.value: segment
    for segment in (
        Segment(RIGHT_LUNG, "right lung", "R", LUNG, RIGHT, (86, 180, 233)),
        Segment(LEFT_LUNG, "left lung", "L", LUNG, LEFT, (245, 166, 35)),
        Segment(3, "right upper zone", "RU", UPPER_LOBE, RIGHT, (140, 210, 250)),
        Segment(4, "right middle zone", "RM", MIDDLE_LOBE, RIGHT, (55, 165, 225)),
        Segment(5, "right lower zone", "RL", LOWER_LOBE, RIGHT, (85, 130, 240)),
        Segment(6, "left upper zone", "LU", UPPER_LOBE, LEFT, (255, 214, 110)),
        Segment(7, "left middle zone", "LM", LUNG, LEFT, (245, 150, 35)),
        Segment(8, "left lower zone", "LL", LOWER_LOBE, LEFT, (214, 88, 20)),
    )
}
"""Blues for the right lung, oranges for the left, which colour-blind readers tell apart too."""

STRUCTURES = {
    "lung": LUNG,
    "heart": Code("80891009", "Heart"),
    "clavicle": Code("51299004", "Clavicle"),
    "trachea": Code("44567001", "Trachea"),
    "aorta": Code("15825003", "Aorta"),
    "mediastinum": Code("72410000", "Mediastinum"),
    "diaphragm": Code("5798000", "Diaphragm"),
    "rib": Code("113197003", "Rib"),
}
"""Codes of structures that users teach, by what they call them; others get a generic code."""

SIDES = {"right": RIGHT, "left": LEFT}

LEARNT_COLOURS = ((0, 190, 140), (214, 110, 190), (240, 228, 66), (230, 80, 80), (150, 130, 240))
"""Of the first learnt segments; those of later ones are drawn."""

LUNG_NAMES: dict[int, str] = {value: SEGMENTS[value].name for value in (RIGHT_LUNG, LEFT_LUNG)}


def structure_of(name: str) -> tuple[Code, Code | None]:
    """Code and laterality of a structure by its name, such as "left clavicle" or "ribs"."""
    words = name.casefold().split()
    laterality = SIDES.get(words[0]) if words else None
    rest = " ".join(words[1:] if laterality else words)
    return STRUCTURES.get(rest, STRUCTURES.get(rest.removesuffix("s"), ANATOMICAL_STRUCTURE)), laterality


def segment_of(value: int, name: str | None = None) -> Segment:
    """The segment a label value stands for; values without a fixed meaning get a generic code.

    A learnt segment gets the colour that follows from its value, so it is the same in every picture.
    """
    if value in SEGMENTS:
        known = SEGMENTS[value]
        return replace(known, name=name or known.name)
    index = value - FIRST_LEARNT
    if 0 <= index < len(LEARNT_COLOURS):
        colour = LEARNT_COLOURS[index]
    else:
        red, green, blue = (int(level) for level in np.random.default_rng(value).integers(60, 240, 3))
        colour = (red, green, blue)
    return Segment(value, name or f"segment {value}", str(value), ANATOMICAL_STRUCTURE, None, colour)
