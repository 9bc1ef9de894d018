"""What decides the denoiser: one short training from scratch a row, each with one choice changed.

    python benchmarks/ablations.py METADATA.csv --work DIR [--steps N] [--rows base,cls,...] [--write FILE]

All rows see the same pictures in the same order, as often, at one size, with the bundle's encoder; a second
seed of the first row tells how much of a difference is chance. Latents are decoded by the linear path alone,
so that fewer channels are not compared with a decoder that was trained for more. A row measured before, under
the same circumstances, is kept in DIR, and so is one that was trained but not measured yet.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from documents import write_between

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.files.atomic import atomic_path

SCRIPT = "benchmarks/ablations.py"


def main() -> None:
    """Trains and measures the rows that are missing, one after the other, and prints the table after each."""
    options = parse()
    hush_libraries()
    from ablation_rows import ROWS, Bench

    if unknown := [name for name in options.rows or () if name not in ROWS]:
        sys.exit(f"There is no row {unknown[0]}; take some of {', '.join(ROWS)}.")
    try:
        bench = Bench.of(options)
        place = options.work / "ablations.json"
        report = started(place, bench.about())
        for name in options.rows or ROWS:
            if name not in report["trained"]:
                report["trained"][name] = bench.train(name)
                save(place, report)
            if name not in report["rows"]:
                report["rows"][name] = bench.measured(name)
                report["rows"] = {each: report["rows"][each] for each in ROWS if each in report["rows"]}
                save(place, report)
                print(table(report), flush=True)
    except DinoDiffusionError as error:
        sys.exit(str(error))
    if options.write:
        write_between(options.write, SCRIPT, table(report))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "data", type=Path, metavar="METADATA.csv", help="splits train, holdout, and dev with masks"
    )
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="runs and figures go there")
    parser.add_argument("--rows", type=lambda text: text.split(","), metavar="NAME,...", help="default: all")
    parser.add_argument("--recipe", default="cpu/denoiser", help="what every row changes one thing of")
    parser.add_argument("--size", type=int, default=128, metavar="PIXELS", help="side of the pictures")
    parser.add_argument("--batch", type=int, default=16, metavar="N")
    parser.add_argument("--steps", type=int, default=300, metavar="N")
    parser.add_argument("--images", type=int, default=900, metavar="N", help="training images, evenly picked")
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="of each row")
    parser.add_argument(
        "--masks", type=int, default=40, metavar="N", help="dev images that lungs are read on"
    )
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    return parser.parse_args()


def started(place: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The report at `place`. Ends the program if it was made otherwise: its runs lie there."""
    if not place.is_file():
        return {**about, "trained": {}, "rows": {}}
    before: dict[str, Any] = json.loads(place.read_text())
    if other := [name for name in about if before.get(name) != about[name]]:
        sys.exit(f"{place.parent}: holds runs of another {other[0]}; name another folder.")
    return before


def save(place: Path, report: dict[str, Any]) -> None:
    """Whole or not at all."""
    with atomic_path(place) as temporary:
        temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    first = next(iter(report["rows"].values()))
    lines = [
        f"Widths {'/'.join(map(str, report['widths']))} unless it says otherwise, from scratch, "
        f"{report['steps']} steps of {report['batch']} pictures at {report['size']} px, learning rate "
        f"{report['lr']:g}, {report['images']} training images; {report['samples']} samples of each row; "
        f"lungs on {report['masks']} dev images. Work: of one pass, as a multiple of the first row's. KID "
        "through EfficientNet-Lite0; in brackets that of the same radiographs' own latents.",
        "",
        "| row | changed | weights, M | work | flow loss, held out | KID (95 % interval) [own latents] "
        "| own source nearest: CLS / patches | lung cells, AUC | CPU minutes |",
        "|---" * 9 + "|",
    ]
    for name, found in report["rows"].items():
        trained, kid = report["trained"][name], found["kid"]
        cells = [
            name,
            found["changed"],
            f"{found['weights'] / 1e6:.1f}",
            f"{found['flops'] / first['flops']:.2f}",
            f"{trained['flow_held_out']:.3f}",
            f"{kid['value']:.3f} ({kid['low']:.3f} to {kid['high']:.3f}) [{found['kid_perfect']:.3f}]",
            f"{found['nearest_cls']:.2f} / {found['nearest_patches']:.2f}",
            f"{found['lung_auc']:.3f}",
            f"{trained['cpu_seconds'] / 60:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
