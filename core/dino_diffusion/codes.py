"""Label values, names, standard codes and colours of what the library segments.

Codes are SNOMED CT as DICOM PS3.16 uses them (coding scheme `SCT`). On a frontal radiograph the anatomical
lobes overlap, so zones carry the code of the lobe that a reader would call them after: they are the part
of a lung field, not the lobe itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Code:
    """One concept of a coding scheme."""

    value: str
    meaning: str
    scheme: str = "SCT"


@dataclass(frozen=True)
class Segment:
    """What one label value stands for; `colour` is sRGB in 0..255."""

    value: int
    name: str
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
        Segment(RIGHT_LUNG, "right lung", LUNG, RIGHT, (66, 150, 245)),
        Segment(LEFT_LUNG, "left lung", LUNG, LEFT, (245, 148, 50)),
        Segment(3, "right upper zone", UPPER_LOBE, RIGHT, (102, 204, 238)),
        Segment(4, "right middle zone", MIDDLE_LOBE, RIGHT, (34, 136, 51)),
        Segment(5, "right lower zone", LOWER_LOBE, RIGHT, (68, 85, 187)),
        Segment(6, "left upper zone", UPPER_LOBE, LEFT, (238, 204, 85)),
        Segment(7, "left middle zone", LUNG, LEFT, (204, 51, 120)),
        Segment(8, "left lower zone", LOWER_LOBE, LEFT, (187, 62, 30)),
    )
}
LUNG_NAMES: dict[int, str] = {value: SEGMENTS[value].name for value in (RIGHT_LUNG, LEFT_LUNG)}


def segment_of(value: int, name: str | None = None) -> Segment:
    """The segment a label value stands for; values without a fixed meaning get a generic code.

    A learnt segment gets the colour that follows from its value, so it is the same in every picture.
    """
    if value in SEGMENTS:
        known = SEGMENTS[value]
        return Segment(value, name or known.name, known.kind, known.laterality, known.colour)
    red, green, blue = (int(level) for level in np.random.default_rng(value).integers(60, 240, 3))
    return Segment(value, name or f"segment {value}", ANATOMICAL_STRUCTURE, None, (red, green, blue))
