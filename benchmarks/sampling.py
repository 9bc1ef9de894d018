"""Steps, solver and guidance: how near samples come to held-out radiographs, and what they cost.

    python benchmarks/sampling.py METADATA.csv --work DIR [--samples N] [--settings S ...] [--write FILE]

A setting is SOLVER:STEPS:GUIDANCE[:FROM:TO], the last two the flow times between which guidance acts. All of
them draw the same tokens and noise from the bundle's prior and are compared with the same held-out images;
KID does not depend on how many there are. Every setting is also compared with the one of the most steps,
picture by picture of the same noise, which tells smaller differences apart. What was drawn is kept in DIR.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from documents import write_between

from dino_diffusion.cli.console import hush_libraries

if TYPE_CHECKING:
    import numpy as np

    from dino_diffusion.evaluation.drawn import Drawing
    from dino_diffusion.evaluation.release import Measurement

SETTINGS = (
    "dpmpp_2m:50:2", "dpmpp_2m:10:2", "dpmpp_2m:8:2", "dpmpp_2m:16:2", "dpmpp_2m:6:2",
    "dpmpp_2m:10:1", "dpmpp_2m:10:1.5", "dpmpp_2m:10:3", "dpmpp_2m:10:2:0:1", "dpmpp_2m:10:2:0.3:0.8",
    "euler:10:2", "heun:5:2",
)  # fmt: skip
SCRIPT = "benchmarks/sampling.py"

Features = dict[str, "np.ndarray"]
"""`(N, D)` by the name of the network."""


def main() -> None:
    """Draws the settings one after the other, and prints the table in the end."""
    options = parse()
    hush_libraries()
    from dino_diffusion.evaluation.release import Measurement
    from dino_diffusion.models import ModelBundle

    settings = {text: setting(text) for text in options.settings}
    bundle = ModelBundle.from_pretrained(options.bundle)
    measurement = Measurement(bundle, options.data, samples=options.samples)
    found = {}
    for text, drawing in settings.items():
        found[text] = features(measurement, drawing, options.work)
        print(f"{text}: drawn", flush=True)
    real = {net.name: measurement.features(net, measurement.real) for net in measurement.nets[0]}
    made = table(measurement, settings, real, found)
    print(made)
    if options.write:
        write_between(options.write, SCRIPT, made)


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="METADATA.csv", help="images with split holdout")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="what is drawn is kept there")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="of each setting")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), metavar="SOLVER:STEPS:GUIDANCE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    return parser.parse_args()


def setting(text: str) -> Drawing:
    """`SOLVER:STEPS:GUIDANCE[:FROM:TO]`; raises SystemExit for anything else."""
    from dino_diffusion.evaluation.drawn import Drawing
    from dino_diffusion.sampling import SAMPLERS

    try:
        sampler, steps, guidance, *interval = text.split(":")
        if sampler not in SAMPLERS:
            raise ValueError(sampler)
        drawing = Drawing(0, int(steps), float(guidance), sampler)
        if interval:
            low, high = map(float, interval)
            drawing = replace(drawing, guidance_interval=(low, high))
        return drawing
    except ValueError as error:
        known = ", ".join(SAMPLERS)
        raise SystemExit(f"{text}: write SOLVER:STEPS:GUIDANCE[:FROM:TO], SOLVER one of {known}") from error


def features(measurement: Measurement, drawing: Drawing, work: Path) -> Features:
    """Of the setting's pictures, through each net; kept beside them."""
    from safetensors.numpy import load_file, save_file

    from dino_diffusion.evaluation.drawn import drawn
    from dino_diffusion.files.atomic import atomic_path

    kept = drawing.folder(work, measurement.bundle) / f"features-{measurement.samples}.safetensors"
    if kept.is_file():
        return load_file(kept)
    pictures = drawn(measurement.bundle, measurement.samples, drawing, work)
    found = {net.name: measurement.features(net, pictures) for net in measurement.nets[0]}
    with atomic_path(kept) as temporary:
        save_file(found, temporary)
    return found


def passes(drawing: Drawing, time_shift: float) -> int:
    """How often a picture goes through the denoiser; twice in a guided call."""
    import torch

    from dino_diffusion.sampling import SAMPLERS, guided, time_grid

    count = 0

    def predict(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += len(x)
        return torch.zeros_like(x)

    nothing = torch.zeros(1)
    velocity = guided(predict, nothing, nothing, drawing.guidance, interval=drawing.guidance_interval)
    SAMPLERS[drawing.sampler](velocity, torch.zeros(1, 1, 1, 1), time_grid(drawing.steps, time_shift))
    return count


def tokens(measurement: Measurement, drawing: Drawing) -> np.ndarray:
    """CLS tokens `(N, width)` that the pictures were drawn for: the first thing that a seed gives."""
    import torch

    from dino_diffusion.generation.sampled import generator_of

    prior = measurement.bundle.prior
    drawn = [prior.sample(1, generator_of(drawing.seed, k)).cls for k in range(measurement.samples)]
    return torch.cat(drawn).double().cpu().numpy()


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of rows `(N, width)`."""
    import numpy as np

    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / lengths).mean())


def table(
    measurement: Measurement, settings: dict[str, Drawing], real: Features, found: dict[str, Features]
) -> str:
    """Markdown: a setting a row, the cheapest first."""
    from dino_diffusion.evaluation.distribution import KernelDistance, evaluate_generation, kernel_difference

    bundle, nets = measurement.bundle, list(real)
    reference = max(settings, key=lambda text: settings[text].steps)
    cost = {text: passes(drawing, bundle.time_shift) for text, drawing in settings.items()}
    titles = ["solver", "steps", "guidance (between)", "passes"]
    titles.append("cosine to its CLS")
    titles += [f"{title}, {net}" for net in nets for title in ("KID", "KID more than", "precision / recall")]
    lines = [
        f"Bundle `{bundle.id}`, {measurement.samples} pictures of each setting from the same noise "
        f"against {len(next(iter(real.values())))} held-out radiographs; passes through the denoiser a "
        "picture; cosine of its CLS token to the one it was drawn for; 95 % intervals; 'KID more than': than "
        f"`{reference}`, picture by picture.",
        "",
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
    ]

    def said(kid: KernelDistance) -> str:
        return f"{kid.value:.3f} ({kid.low:.3f} to {kid.high:.3f})"

    for text in sorted(settings, key=lambda text: cost[text]):
        drawing = settings[text]
        low, high = drawing.guidance_interval
        cells = [drawing.sampler, str(drawing.steps), f"{drawing.guidance:g} ({low:g} to {high:g})"]
        cells.append(str(cost[text]))
        followed = likeness(found[text]["encoder-cls"], tokens(measurement, drawing))
        cells.append(f"{followed:.2f}")
        for net in nets:
            values = evaluate_generation(real[net], found[text][net], net)
            more = kernel_difference(real[net], found[text][net], found[reference][net])
            cells.append(said(KernelDistance(values["kid"], *values["kid_ci"])))
            cells.append("-" if text == reference else said(more))
            cells.append(f"{values['precision']:.2f} / {values['recall']:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
