"""The starter sets: which images of a list make which of the concepts that travel with the package.

Each set comes from one source, so that no class is told by where its images come from, and each class is half
AP and half PA films where there are enough, so that it is not told by the view.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dino_diffusion.codes import Code
from dino_diffusion.errors import ConfigurationError

Row = dict[str, str]
"""A row of the list: `image`, `source`, `split`, `patient_id`, `view`, `finding` ('|' parts several)."""

MOST_IMAGES = 100


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


def choose(
    rows: Sequence[Row], source: str, finding: str, split: str = "train", most: int = MOST_IMAGES
) -> list[Row]:
    """Up to `most` rows of a source and split that show a finding, half of each view where there are enough.

    First those with the fewest other findings and of patients not yet taken; chance, the same each time,
    decides among equals.
    """
    fitting = [r for r in rows if r["source"] == source and r["split"] == split and finding in findings(r)]
    fitting.sort(key=lambda row: hashlib.sha256(row["image"].encode()).hexdigest())
    seen: Counter[str] = Counter()
    ranked = []
    for row in fitting:
        ranked.append((seen[row["patient_id"]], len(findings(row)), row))
        seen[row["patient_id"]] += 1
    ordered = [row for _, _, row in sorted(ranked, key=lambda entry: entry[:2])]
    by_view = {view: [row for row in ordered if row["view"] == view] for view in {r["view"] for r in ordered}}
    quota = most // max(1, len(by_view))
    taken = [row for view in sorted(by_view) for row in by_view[view][:quota]]
    chosen = {row["image"] for row in taken}
    rest = [row for row in ordered if row["image"] not in chosen]
    return (taken + rest)[:most]
