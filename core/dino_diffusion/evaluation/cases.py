"""The images behind a figure: a table of all of them, a page of the worst."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dino_diffusion.evaluation.labelfiles import read_labels, stem
from dino_diffusion.evaluation.segmentation import Prediction, SegmentationReport
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.pictures import contact_sheet, overlay
from dino_diffusion.radiograph import Radiograph

TILE = 360
WORST = 12


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """CSV with the first row's names as its head; a list becomes one text, an unknown value is empty.

    Raises:
        RadiographError: the place cannot be written to.
    """
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: "; ".join(v) if isinstance(v, list) else v for name, v in row.items()})
    return path


def worst_cases(
    report: SegmentationReport,
    segment: Callable[[Path], Prediction],
    count: int = WORST,
    names: dict[str, str] | None = None,
) -> np.ndarray:
    """A page of the images with the lowest Dice, `(H, W, 3)` uint8: each plain and, beside it, labelled.

    The labels are tinted, the reference is a white line. `segment` is asked again, because a report holds
    no labelmaps: a folder's would not fit in memory. `names`: what to call the structures.
    """
    cases = []
    worst = report.worst(count)
    for case in worst:
        radiograph = Radiograph.read(case.image.resolve())
        upright = radiograph.source.grid.picture
        dice = "  ".join(f"{(names or {}).get(k, k)} {value:.2f}" for k, value in case.scores.dice.items())
        cases.append(
            (
                radiograph.pixels,
                upright(segment(case.image).labels),
                upright(read_labels(case.mask)[0]),
                stem(case.image),
                f"Dice {case.scores.mean:.2f}  ({dice})",
            )
        )
    return page_of_cases(cases, f"The {len(worst)} worst of {len(report.images)}; white: reference")


def page_of_cases(
    cases: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, str, str]], title: str
) -> np.ndarray:
    """Pairs of pictures, two pairs a row.

    `cases`: radiograph `(H, W)` in [0, 1], labels and reference labels `(H, W)`, and a caption for the
    plain and the labelled picture each.
    """
    pictures, captions = [], []
    for pixels, labels, reference, *lines in cases:
        pictures += [pixels, overlay(pixels, labels, TILE, legend=False, reference=reference)]
        captions += lines
    return contact_sheet(pictures, captions, columns=4, tile=TILE, title=title)
