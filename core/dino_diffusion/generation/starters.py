"""The starter sets: which images of a list make which of the concepts that travel with the package.

A class must not be told by anything but what it shows. So each set comes from one source; each class is half
AP and half PA films where there are enough; and images are chosen so that the contrast between lung and
mediastinum is distributed alike in all classes of a view: in the NIH subset normal films have less of it than
any others, and a concept learnt from them as they come whitens lungs instead of clearing them.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from dino_diffusion.codes import Code
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.view import GreyScale

Row = dict[str, str]
"""A row of the list: `image`, `source`, `split`, `patient_id`, `view`, `finding` ('|' parts several)."""

NORMAL = "normal"
MOST_IMAGES = 100
KEPT = 0.8
"""Share of a view's images that may be chosen."""

OTHER_FINDING, SAME_PATIENT = 0.01, 0.05
"""What one more finding, or one more film of a patient, costs beside a contrast that differs by as much."""


@dataclass(frozen=True)
class Starter:
    """`set_name/name`, learnt from the rows of `source` that have `finding`."""

    set_name: str
    name: str
    source: str
    finding: str
    description: str
    code: Code

    @property
    def full_name(self) -> str:
        """What a user calls it."""
        return f"{self.set_name}/{self.name}"


def _nih(name: str, finding: str, description: str, value: str, meaning: str) -> Starter:
    return Starter("nih", name, "nih14", finding, description, Code(value, meaning))


STARTERS: tuple[Starter, ...] = (
    _nih("normal", "normal", "Adults' chests in which no finding is recorded.", "827032003", "Normal lung"),
    _nih("pneumonia", "Pneumonia", "Pneumonia, with other findings in part.", "233604007", "Pneumonia"),
    _nih(
        "infiltration",
        "Infiltration",
        "Infiltrates, mostly with other findings.",
        "409609008",
        "Radiologic infiltrate of lung",
    ),
    _nih("atelectasis", "Atelectasis", "Atelectasis, mostly with other findings.", "46621007", "Atelectasis"),
    _nih("effusion", "Effusion", "Pleural effusion, mostly with others.", "60046008", "Pleural effusion"),
    _nih(
        "consolidation",
        "Consolidation",
        "Consolidation, mostly with other findings.",
        "95436008",
        "Lung consolidation",
    ),
    _nih(
        "cardiomegaly", "Cardiomegaly", "An enlarged heart, in part with others.", "8186001", "Cardiomegaly"
    ),
    Starter("tb", "normal", "shenzhen", "normal", "Normal chests.", Code("827032003", "Normal lung")),
    Starter(
        "tb",
        "tuberculosis",
        "shenzhen",
        "tb",
        "Pulmonary tuberculosis in its various forms.",
        Code("154283005", "Pulmonary tuberculosis"),
    ),
)


def opposed(concepts: Mapping[str, Concept]) -> dict[str, Concept]:
    """Starter concepts by their full names, each with its opposite among those given of the same set.

    A finding is told from normal films, normal films from those of all findings together. One without an
    opposite stays as it is.
    """
    result = {}
    for name, concept in concepts.items():
        own_set, _, own = name.partition("/")
        others = [
            other
            for other_name, other in concepts.items()
            if other_name.startswith(f"{own_set}/")
            and (other_name == f"{own_set}/{NORMAL}") != (own == NORMAL)
        ]
        result[name] = concept.opposed_to(others) if others else concept
    return result


def read_rows(path: Path) -> list[Row]:
    """The list's rows. Raises ConfigurationError for a file that is no such list."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigurationError(f"{path}: cannot be read; name the data's metadata.csv.") from error
    missing = {"image", "source", "split", "patient_id", "view", "finding"} - set(rows[0] if rows else ())
    if missing:
        raise ConfigurationError(
            f"{path}: lacks the columns {', '.join(sorted(missing))}; name the data's metadata.csv."
        )
    return rows


def findings(row: Row) -> list[str]:
    """What is recorded of an image."""
    return row["finding"].split("|")


def contrasts(folder: Path, rows: Sequence[Row]) -> dict[str, float]:
    """How dark the lungs are beside the brightest parts of a film's middle, by image; 1 is no contrast."""
    found = {}
    for row in rows:
        pixels = Radiograph.read(folder / row["image"]).pixels
        height, width = pixels.shape
        middle = pixels[int(0.2 * height) : int(0.7 * height), int(0.15 * width) : int(0.85 * width)]
        dark, bright = np.percentile(GreyScale.of(pixels).apply(middle.copy()), (10, 90))
        found[row["image"]] = float(dark / bright)
    return found


def choose(
    rows: Sequence[Row], finding: str, contrast: Mapping[str, float], most: int = MOST_IMAGES
) -> list[Row]:
    """Up to `most` of the rows (of one source) that show a finding, half of each view where there are enough.

    Within a view they are those whose contrasts come nearest to what is usual there of films with a finding,
    with few other findings and of different patients where that costs little; a fifth is left out, so that
    there is a choice. Chance, the same each time, decides among equals.
    """
    views = sorted({row["view"] for row in rows})
    fitting = {view: [r for r in rows if r["view"] == view and finding in findings(r)] for view in views}
    enough = {view: int(KEPT * len(found)) for view, found in fitting.items()}
    counts = dict.fromkeys(views, 0)
    while sum(counts.values()) < most and any(counts[view] < enough[view] for view in views):
        smallest = min((v for v in views if counts[v] < enough[v]), key=lambda view: counts[view])
        counts[smallest] += 1
    chosen = []
    for view in views:
        usual = _usual([row for row in rows if row["view"] == view], contrast, counts[view])
        chosen += _matching(fitting[view], contrast, usual)
    return chosen


def _usual(rows: Sequence[Row], contrast: Mapping[str, float], count: int) -> np.ndarray:
    """`count` quantiles of the contrasts of films with a finding; normal films are enough to match them."""
    found = [contrast[row["image"]] for row in rows if NORMAL not in findings(row)]
    return np.quantile(found, (np.arange(count) + 0.5) / max(1, count)) if found else np.empty(0)


def _matching(rows: Sequence[Row], contrast: Mapping[str, float], wanted: np.ndarray) -> list[Row]:
    """As many rows as `wanted` contrasts, the assignment that costs least in all."""
    ordered = sorted(rows, key=lambda row: hashlib.sha256(row["image"].encode()).hexdigest())
    seen: Counter[str] = Counter()
    cost = np.empty((len(ordered), len(wanted)))
    for number, row in enumerate(ordered):
        price = OTHER_FINDING * (len(findings(row)) - 1) + SAME_PATIENT * seen[row["patient_id"]]
        cost[number] = np.abs(contrast[row["image"]] - wanted) + price
        seen[row["patient_id"]] += 1
    return [ordered[number] for number in linear_sum_assignment(cost)[0]]
