"""Weights at eight bits beside half precision: the size, the same samples, and the same lungs of both.

    python benchmarks/storage.py METADATA.csv --work DIR [--samples N] [--steps N] [--masks N] [--write FILE]

Both are saved into DIR and read back, and draw the same tokens and noise: what differs is storage.
KID against the same held-out radiographs, Dice on the same dev images. A way measured before, under the same
circumstances, is kept in DIR.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from documents import write_between

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.files.atomic import atomic_path

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle

SCRIPT = "benchmarks/storage.py"
WAYS = ("float16", "int8")
PICTURES = "pictures.safetensors"


def main() -> None:
    """Measures what is missing and prints the table."""
    options = parse()
    hush_libraries()
    from dino_diffusion.models import ModelBundle

    try:
        bundle = ModelBundle.from_pretrained(options.bundle)
        about = {name: getattr(options, name) for name in ("samples", "steps", "masks")}
        about |= {"bundle": bundle.id, "data": options.data.name}
        place = options.work / "storage.json"
        report: dict[str, Any] = json.loads(place.read_text()) if place.is_file() else {}
        if {name: report.get(name) for name in about} != about:
            report = {**about, "ways": {}}
        for way in WAYS:
            if way not in report["ways"]:
                report["ways"][way] = measured(bundle, way, options)
                save(place, report)
        report["difference"] = difference(*(options.work / way / PICTURES for way in WAYS))
        save(place, report)
    except DinoDiffusionError as error:
        sys.exit(str(error))
    print(table(report))
    if options.write:
        write_between(options.write, SCRIPT, table(report))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="METADATA.csv", help="splits holdout, and dev with masks")
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="bundles and figures go there"
    )
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="of each")
    parser.add_argument("--steps", type=int, default=10, metavar="N")
    parser.add_argument("--masks", type=int, default=40, metavar="N", help="dev images to label")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    return parser.parse_args()


def measured(bundle: ModelBundle, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Megabytes, KID through EfficientNet-Lite0 and lung Dice of the bundle as stored that way."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from dino_diffusion.evaluation.distribution import kernel_distance
    from dino_diffusion.evaluation.features import EfficientNetLite0Features
    from dino_diffusion.evaluation.release import Measurement
    from dino_diffusion.generation.variants import generate
    from dino_diffusion.models import ModelBundle

    folder = options.work / way / "bundle"
    bundle.save_pretrained(folder, dtype=getattr(torch, way))
    stored = ModelBundle.from_pretrained(folder)
    weights = list(folder.rglob("*.safetensors"))
    measurement = Measurement(stored, options.data, limit=options.masks, samples=options.samples)
    made = generate(stored, options.samples, steps=options.steps)
    pictures = torch.from_numpy(np.stack([item.pixels for item in made]))[:, None]
    save_file({"pictures": pictures}, folder.with_name(PICTURES))
    net = EfficientNetLite0Features()
    real, ours = measurement.features(net, measurement.real), measurement.features(net, pictures)
    return {
        "megabytes": sum(file.stat().st_size for file in weights) / 1e6,
        "kid": vars(kernel_distance(real, ours)),
        "dice": measurement.segmentation()[measurement.split]["dice"],
    }


def difference(one: Path, other: Path) -> dict[str, float]:
    """Between the same pictures of both, in [0, 1]: the mean, that of the worst picture, and of a pixel."""
    from safetensors.torch import load_file

    apart = (load_file(one)["pictures"] - load_file(other)["pictures"]).abs()
    each = apart.mean((1, 2, 3))
    return {"mean": float(each.mean()), "worst_picture": float(each.max()), "pixel": float(apart.max())}


def save(place: Path, report: dict[str, Any]) -> None:
    """Whole or not at all."""
    with atomic_path(place) as temporary:
        temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    apart = {name: 255 * value for name, value in report["difference"].items()}
    lines = [
        f"Bundle `{report['bundle']}`; {report['samples']} samples of each in {report['steps']} steps from "
        f"the same tokens and noise, {report['masks']} dev images. The same sample differs by "
        f"{apart['mean']:.1f} grey levels of 255 on average, by {apart['worst_picture']:.1f} in the picture "
        f"that differs most, and by {apart['pixel']:.0f} in the worst pixel of all.",
        "",
        "| stored as | weights, MB | KID, EfficientNet-Lite0 (95 % interval) | lungs, mean Dice, dev |",
        "|---|---|---|---|",
    ]
    for way, found in report["ways"].items():
        kid, dice = found["kid"], found["dice"]["mean"]
        interval = f"{kid['low']:.3f} to {kid['high']:.3f}"
        lines.append(f"| {way} | {found['megabytes']:.1f} | {kid['value']:.3f} ({interval}) | {dice:.4f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
