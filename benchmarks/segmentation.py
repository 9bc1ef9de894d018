"""Lungs side by side: ours, ours with one part replaced, and what does without or with labels.

    python benchmarks/segmentation.py -o DIR [--data LIST.csv] [--limit N] [--rows ours,random,...] [--quick]

Every row labels the same files and is scored alike; those that learn, learn in this run and are timed. Rows
that are in DIR already, of the same bundle, files and settings, are kept: a run can be cut short and resumed.
DIR gets segmentation.md, the table, and segmentation.json with everything else. Times are multiples of one
denoiser pass, measured beside each row, because another program on the same cores slows both alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.files.atomic import atomic_path

QUICK = {"limit": 12, "train_images": 40, "folds": 2, "unet_steps": 40}


def main() -> None:
    """Measures the rows that are missing and writes the table after each."""
    options = parse()
    hush_libraries()
    from segmentation_bench import Bench
    from segmentation_rows import ROWS, measured

    if unknown := [name for name in options.rows or () if name not in ROWS]:
        sys.exit(f"There is no row {unknown[0]}; take some of {', '.join(ROWS)}.")
    try:
        bench = Bench.of(options)
        place = options.output / "segmentation.json"
        report = started(place, bench.about())
        for name in options.rows or ROWS:
            if name not in report["rows"]:
                done = report["rows"] | {name: measured(ROWS[name], bench)}
                report["rows"] = {name: done[name] for name in ROWS if name in done}
                save(place, json.dumps(report, indent=1, allow_nan=False) + "\n")
                save(place.with_suffix(".md"), table(report))
    except DinoDiffusionError as error:
        sys.exit(str(error))
    print(table(report))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="table and JSON go there"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr/metadata.csv"), metavar="CSV")
    parser.add_argument("--split", default="dev", help="whose masks are used; settings are chosen on dev")
    parser.add_argument("--limit", type=int, default=120, metavar="N", help="score N images, evenly picked")
    parser.add_argument("--all", dest="limit", action="store_const", const=None, help="score every image")
    parser.add_argument("--rows", type=lambda text: text.split(","), metavar="NAME,...", help="default: all")
    parser.add_argument("--recipe", default="cpu/readout", help="how read-outs are fitted")
    parser.add_argument("--train-images", type=int, metavar="N", help="fit them on fewer images than it says")
    parser.add_argument("--folds", type=int, default=3, metavar="K", help="of the supervised U-Net")
    parser.add_argument("--unet-steps", type=int, default=300, metavar="N")
    parser.add_argument("--quick", action="store_true", help=f"see whether it runs: {QUICK}")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--device", metavar="NAME", help="default: the first GPU, else the CPU")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return options


def started(place: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The report at `place` if it was made under the same circumstances, else an empty one."""
    if place.is_file():
        before = json.loads(place.read_text())
        if {name: before.get(name) for name in about} == about:
            return before
    return {**about, "rows": {}}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"Bundle `{report['bundle']}`, {report['n']} images of split {report['split']}, read-outs fitted by "
        f"`{report['recipe']}` on {report['train_images']} images, U-Net in {report['folds']} folds of "
        f"{report['unet_steps']} steps, on {report['device']}.",
        "",
        "| method | masks seen | Dice (95 % CI) | right / left | 5th percentile | HD95, % of diagonal "
        "| fit, s | per image, denoiser passes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in report["rows"].values():
        dice, interval = found["dice"], found["ci95"]["dice"]["mean"]
        spread = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        lines.append(
            f"| {found['name']} | {found['seen']} | {dice['mean']:.3f}{spread} | {dice['right']:.3f} / "
            f"{dice['left']:.3f} | {dice['p5']:.3f} | {found['hd95']:.1f} | {found['fit_seconds']:.0f} "
            f"| {found['denoiser_passes']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def save(path: Path, text: str) -> None:
    """Whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
