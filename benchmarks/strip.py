"""Does a strip from healthy to a finding change what the finding changes? Twenty held-out normal radiographs.

    python benchmarks/strip.py metadata.csv [--images 20] [--steps 8] [--write docs/concepts.md]

For each, a strip of seven frames from `healthy` to each finding, and Spearman's correlation of the frame with
the lungs' mean grey (opacity) and the cardiothoracic ratio: 1 where every frame has more than the one before.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from documents import write_between

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.evaluation.intervals import interval
from dino_diffusion.generation.composition import usual_guidance
from dino_diffusion.generation.library import find_concept
from dino_diffusion.generation.starters import NORMAL, choose, contrasts, read_rows
from dino_diffusion.generation.strip import GUIDANCE, Strip, StripPath, StripSettings, strip
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph

SCRIPT = "benchmarks/strip.py"
START = "nih/normal"
ENDS = {"nih/effusion": "opacity", "nih/pneumonia": "opacity", "nih/cardiomegaly": "cardiothoracic_ratio"}
"""The findings, and the quantity that should rise with each."""


def main() -> None:
    """Measures, prints, and writes the table where that was asked for."""
    options = parse()
    hush_libraries()
    bundle = ModelBundle.from_pretrained(options.bundle)
    rows = [r for r in read_rows(options.data) if r["source"] == "nih14" and r["split"] == "holdout"]
    chosen = choose(rows, NORMAL, contrasts(options.data.parent, rows), options.images)
    radiographs = [Radiograph.read(options.data.parent / row["image"]) for row in chosen]
    settings = StripSettings(strength=options.strength, guidance=options.guidance, steps=options.steps)
    head = ["from healthy to", "should rise", "median rank correlation with the frame", "at least 0.9"]
    head.append("from first to last frame, mean [95 % CI]")
    usual = usual_guidance((find_concept(name) for name in (START, *ENDS)), GUIDANCE)
    lines = [
        f"Bundle `{bundle.id}`, {len(radiographs)} held-out normal radiographs, strength "
        f"{settings.strength}, guidance {usual if settings.guidance is None else settings.guidance}, "
        f"{settings.steps} steps, {settings.frames} frames.",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
    ]
    for end, quantity in ENDS.items():
        ends = find_concept(START), find_concept(end)
        made = [strip(StripPath.of(bundle, r, *ends, settings)) for r in radiographs]
        lines.append(row(end, quantity, made))
        print(lines[-1], flush=True)
    if options.write:
        write_between(options.write, SCRIPT, "\n".join(lines))


def row(end: str, quantity: str, made: list[Strip]) -> str:
    """A row of the table."""
    trends = np.array([_number(item.trends[quantity]) for item in made])
    values = [item.quantities[quantity] for item in made]
    changes = [last - first for first, *_, last in values if first is not None and last is not None]
    low, high = interval(changes) or (float("nan"),) * 2
    return (
        f"| {end.partition('/')[2]} | {quantity.replace('_', ' ')} | {np.median(trends):+.2f} | "
        f"{(trends >= 0.9).sum()} of {len(trends)} | {np.mean(changes):+.3f} [{low:+.3f}, {high:+.3f}] |"
    )


def _number(value: Any) -> float:
    """A strip without a trend counts as one without correlation."""
    return 0.0 if value is None else float(value)


def parse() -> argparse.Namespace:
    """The command line's options."""
    defaults = StripSettings()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="metadata.csv of the development data")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--images", type=int, default=20, metavar="N", help="how many radiographs")
    parser.add_argument("--strength", type=float, default=defaults.strength, metavar="S")
    parser.add_argument("--guidance", type=float, default=defaults.guidance, metavar="G")
    parser.add_argument("--steps", type=int, default=defaults.steps, metavar="K", help="sampling steps")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file to put the table into")
    return parser.parse_args()


if __name__ == "__main__":
    main()
