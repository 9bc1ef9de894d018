"""How far the denoiser heeds the frame it is given, on synthetic pictures alone.

    python benchmarks/conditioning.py [--draws N] [--bundle PATH|HUB] [--json]

Draws parts of a radiograph by their crop box, with the tokens of the whole, of the part, and with none, and
the whole from sources of several sizes. What the numbers mean: `dino_diffusion.evaluation.conditioning`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from dino_diffusion.cli.console import hush_libraries

KINDS = {
    "whole_tokens": "a part by its crop box, tokens of the whole",
    "own_tokens": "a part by its crop box, tokens of the part",
    "no_tokens": "a part by its crop box, no tokens",
}


def main() -> None:
    """Measures and prints."""
    options = parse()
    hush_libraries()
    from dino_diffusion.evaluation.conditioning import draw_framed, evaluate_conditioning
    from dino_diffusion.models import ModelBundle

    bundle = ModelBundle.from_pretrained(options.bundle)
    draws = [draw_framed(bundle, seed) for seed in range(options.draws)]
    report = {"bundle": bundle.id} | evaluate_conditioning(bundle, draws)
    print(json.dumps(report, indent=1) if options.json else table(report))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=12, metavar="N", help="of the prior (default: 12)")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"Bundle `{report['bundle']}`, {report['n']} draws, three parts each.",
        "",
        "| | cosine to the part cut out | to other parts | the right part is nearest (by chance 0.33) |",
        "|---|---|---|---|",
    ]
    for kind, title in KINDS.items():
        found = report[kind]
        lines.append(f"| {title} | {found['own']:.2f} | {found['others']:.2f} | {found['found']:.2f} |")
    fine = ", ".join(f"{side} px {ratio:.3f}" for side, ratio in report["fine"].items())
    return "\n".join([*lines, "", f"Share of fine detail by source size, the smallest one as 1: {fine}."])


if __name__ == "__main__":
    main()
