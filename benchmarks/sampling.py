"""Steps, solver and guidance: how near samples come to held-out radiographs, and what they cost.

    python benchmarks/sampling.py METADATA.csv --work DIR [--samples N] [--settings S ...] [--write FILE]

A setting is SOLVER:STEPS:GUIDANCE[:FROM:TO], the last two the flow times between which guidance acts. All of
them draw the same tokens and noise from the bundle's prior and are compared with the same held-out images;
KID does not depend on how many there are. A setting measured before, of the same bundle and number, is kept
in DIR.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from documents import write_between

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.files.atomic import atomic_path

if TYPE_CHECKING:
    from dino_diffusion.evaluation.release import Measurement

SETTINGS = (
    "dpmpp_2m:6:2", "dpmpp_2m:8:2", "dpmpp_2m:10:2", "dpmpp_2m:16:2", "dpmpp_2m:50:2",
    "heun:8:2", "euler:16:2", "dpmpp_2m:16:1", "dpmpp_2m:16:1.5", "dpmpp_2m:16:3", "dpmpp_2m:16:2:0:1",
)  # fmt: skip
SCRIPT = "benchmarks/sampling.py"


@dataclass(frozen=True)
class Setting:
    """How to sample; `interval`: flow times between which guidance acts."""

    sampler: str
    steps: int
    guidance: float
    interval: tuple[float, float]

    @classmethod
    def parse(cls, text: str) -> Setting:
        """`SOLVER:STEPS:GUIDANCE[:FROM:TO]`; raises SystemExit for anything else."""
        from dino_diffusion.generation.sampled import GUIDANCE_INTERVAL
        from dino_diffusion.sampling import SAMPLERS

        try:
            sampler, steps, guidance, *interval = text.split(":")
            low, high = (float(value) for value in interval or GUIDANCE_INTERVAL)
            if sampler not in SAMPLERS:
                raise ValueError(sampler)
            return cls(sampler, int(steps), float(guidance), (low, high))
        except ValueError as error:
            known = ", ".join(SAMPLERS)
            raise SystemExit(
                f"{text}: write SOLVER:STEPS:GUIDANCE[:FROM:TO], SOLVER one of {known}"
            ) from error


def main() -> None:
    """Measures the settings that are missing, one after the other, and prints the table after each."""
    options = parse()
    hush_libraries()
    from dino_diffusion.evaluation.release import Measurement
    from dino_diffusion.models import ModelBundle

    bundle = ModelBundle.from_pretrained(options.bundle)
    measurement = Measurement(bundle, options.data, samples=options.samples)
    place = options.work / "sampling.json"
    about = {"bundle": bundle.id, "samples": options.samples, "data": options.data.name}
    report: dict[str, Any] = json.loads(place.read_text()) if place.is_file() else {}
    if {name: report.get(name) for name in about} != about:
        report = {**about, "settings": {}}
    for text in options.settings:
        setting = Setting.parse(text)
        if text not in report["settings"]:
            report["settings"][text] = measured(measurement, setting)
            with atomic_path(place) as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n")
            print(table(report), flush=True)
    if options.write:
        write_between(options.write, SCRIPT, table(report))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="METADATA.csv", help="images with split holdout")
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="figures so far are kept there"
    )
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="of each setting")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), metavar="SOLVER:STEPS:GUIDANCE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    return parser.parse_args()


def measured(measurement: Measurement, setting: Setting) -> dict[str, Any]:
    """KID and precision / recall through each net, and the seconds of a picture."""
    import numpy as np
    import torch

    from dino_diffusion.evaluation.distribution import evaluate_generation
    from dino_diffusion.generation.variants import generate

    began = time.perf_counter()
    made = generate(
        measurement.bundle, measurement.samples, None, measurement.seed, setting.steps, setting.guidance,
        setting.sampler, guidance_interval=setting.interval,
    )  # fmt: skip
    seconds = (time.perf_counter() - began) / len(made)
    pictures = torch.from_numpy(np.stack([item.pixels for item in made]))[:, None]
    nets = {}
    for net in measurement.nets[0]:
        real, ours = measurement.features(net, measurement.real), measurement.features(net, pictures)
        nets[net.name] = evaluate_generation(real, ours, net.name)
    return {"seconds": seconds, "nets": nets}


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    found = report["settings"]
    fastest = min(entry["seconds"] for entry in found.values())
    nets = list(next(iter(found.values()))["nets"])
    lines = [
        f"Bundle `{report['bundle']}`, {report['samples']} samples of each setting, the same noise in all; "
        "KID with its 95 % interval; time as a multiple of the fastest.",
        "",
        "| solver | steps | guidance (between) | " + " | ".join(f"KID, {net}" for net in nets)
        + " | " + " | ".join(f"precision / recall, {net}" for net in nets) + " | time |",
        "|---" * (4 + 2 * len(nets)) + "|",
    ]  # fmt: skip
    for text, entry in found.items():
        setting = Setting.parse(text)
        low, high = setting.interval
        cells = [setting.sampler, str(setting.steps), f"{setting.guidance:g} ({low:g} to {high:g})"]
        for name in nets:
            net = entry["nets"][name]
            cells.append(f"{net['kid']:.3f} ({net['kid_ci'][0]:.3f} to {net['kid_ci'][1]:.3f})")
        cells += [f"{entry['nets'][n]['precision']:.2f} / {entry['nets'][n]['recall']:.2f}" for n in nets]
        lines.append("| " + " | ".join([*cells, f"{entry['seconds'] / fastest:.1f}"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
