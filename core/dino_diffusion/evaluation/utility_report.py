"""What a study of utility found, as a table, as CSV rows and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dino_diffusion.evaluation.utility import CLASSICAL, REAL
from dino_diffusion.pictures import BACKGROUND, LINE, QUIET, TEXT

LEGEND = (
    "AUC on the test images; disc: mean, line: 95 % interval, ticks: single trainings, "
    "yellow: classical augmentation"
)

Arms = Sequence[dict[str, Any]]
"""Of `summarise`."""


def table(arms: Arms) -> list[str]:
    """Lines of a Markdown table."""
    head = ("arm", "AUC (95 % CI)", "range over seeds", "against real alone", "against classical")
    lines = [_row(head), _row(["---"] * len(head))]
    for arm in arms:
        cells = [
            arm["name"],
            f"{arm['auc']:.3f}{_span(arm['auc_ci'])}",
            f"{min(arm['aucs']):.3f} to {max(arm['aucs']):.3f}",
        ]
        for reference in (REAL, CLASSICAL):
            gain = arm["gain"].get(reference)
            cells.append(
                "" if gain is None else f"{gain:+.3f}{_span(arm['gain_ci'][reference], signed=True)}"
            )
        lines.append(_row(cells))
    return lines


def csv_rows(arms: Arms) -> list[dict[str, Any]]:
    """A dictionary an arm for `cases.write_table`."""
    rows = []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm["name"], "auc": arm["auc"], **_ends("auc", arm["auc_ci"])}
        for short, reference in (("gain_over_real", REAL), ("gain_over_classical", CLASSICAL)):
            row[short] = arm["gain"].get(reference)
            row |= _ends(short, arm["gain_ci"].get(reference))
        row["aucs"] = [f"{value:.4f}" for value in arm["aucs"]]
        rows.append(row)
    return rows


def figure(panels: Sequence[tuple[str, Arms]], title: str, width: int = 1400) -> np.ndarray:
    """AUC of every arm with its interval (line), mean (disc) and single trainings (ticks), `(H, W, 3)` uint8.

    One panel beside the other, such as one a pool, all with the same arms and the same scale. A yellow line
    goes through what classical augmentation reaches.
    """
    names = [arm["name"] for arm in panels[0][1]]
    font, small, large = (ImageFont.load_default(size) for size in (17, 14, 21))
    left = round(max(font.getlength(name) for name in names)) + 40
    top, row = 92, 34
    height = top + row * len(names) + 50
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((20, 26), title, font=large, fill=TEXT, anchor="lm")
    for number, name in enumerate(names):
        draw.text((left - 16, top + row * (number + 0.5)), name, font=font, fill=TEXT, anchor="rm")
    low, high = _limits([arm for _, arms in panels for arm in arms])
    gap = 26
    panel = (width - left - gap * len(panels)) / len(panels)
    for place, (caption, arms) in enumerate(panels):
        start = left + place * (panel + gap)

        def x(value: float, start: float = start) -> float:
            return start + (value - low) / (high - low) * panel

        draw.text((start + panel / 2, top - 26), caption, font=font, fill=TEXT, anchor="mm")
        bottom = top + row * len(names)
        for tick in np.arange(np.ceil(low * 10), np.floor(high * 10) + 1) / 10:
            draw.line((x(tick), top, x(tick), bottom), fill=(52, 56, 62))
            draw.text((x(tick), bottom + 16), f"{tick:.1f}", font=small, fill=QUIET, anchor="mm")
        reference = next((arm["auc"] for arm in arms if arm["name"] == CLASSICAL), None)
        if reference is not None:
            draw.line((x(reference), top, x(reference), bottom), fill=LINE)
        found = {arm["name"]: arm for arm in arms}
        for number, name in enumerate(names):
            if name in found:
                _draw_arm(draw, found[name], x, top + row * (number + 0.5))
    draw.text((left, height - 14), LEGEND, font=small, fill=QUIET, anchor="lm")
    return np.asarray(canvas)


def _draw_arm(draw: ImageDraw.ImageDraw, arm: dict[str, Any], x: Any, y: float) -> None:
    low, high = arm["auc_ci"] or (arm["auc"],) * 2
    draw.line((x(low), y, x(high), y), fill=QUIET, width=3)
    for value in arm["aucs"]:
        draw.line((x(value), y - 7, x(value), y + 7), fill=(96, 165, 250))
    centre = x(arm["auc"])
    draw.ellipse((centre - 5, y - 5, centre + 5, y + 5), fill=TEXT)


def _limits(arms: Arms) -> tuple[float, float]:
    values = [value for arm in arms for value in (*arm["aucs"], *(arm["auc_ci"] or ()))]
    return max(0.0, min(values) - 0.02), min(1.0, max(values) + 0.02)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _span(interval: tuple[float, float] | None, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    return "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
