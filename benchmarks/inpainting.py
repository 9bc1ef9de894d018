"""Does inpainting in place really edit, without a seam, in time? On radiographs that were never trained on.

    python benchmarks/inpainting.py LIST.csv [--images 30] [--concepts effusion ...] [--steps 8]
                                    [--pictures DIR] [--write docs/concepts.md] [--json]

LIST.csv has the columns image, source, split, patient_id and finding (`normal`, or findings joined by |); its
rows of split `holdout` are edited, those of `train` teach the probe. Masks are random ellipses in the lungs.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from documents import write_between
from inpainting_concepts import concept_lines, measure_concepts
from scipy.ndimage import distance_transform_edt
from speed import CHILD
from timing import denoiser_pass, median_seconds

if TYPE_CHECKING:
    from dino_diffusion.generation.painting import Inpainted, Inpainting
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Radiograph

Row = dict[str, Any]
Figures = dict[str, float]

SCRIPT, STEPS = "benchmarks/inpainting.py", 16
TRIES = 10
"""Ellipses drawn for one mask."""

RING = 2.0
"""Half the width, in pixels, of the ring over a mask's border in which gradients are compared."""


def main() -> None:
    """Prints the tables, or with --json one document."""
    options = parse()
    from dino_diffusion.cli.console import hush_libraries

    hush_libraries()
    from dino_diffusion.device import choose_device
    from dino_diffusion.models import ModelBundle

    bundle = ModelBundle.from_pretrained(options.bundle, choose_device(options.device))
    with options.list.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == options.source]
    held_out = [row for row in rows if row["split"] == "holdout"]
    chosen = [held_out[k] for k in np.linspace(0, len(held_out) - 1, options.images).astype(int)]
    edits = [measure_edit(bundle, options, row, number) for number, row in enumerate(chosen)]
    report = {
        "bundle": bundle.id,
        "device": str(bundle.device),
        "images": len(chosen),
        "steps": options.steps,
        "edits": summary(edits),
        "concepts": measure_concepts(bundle, options, rows) if options.concepts else {},
        "cost": measure_cost(bundle, options, chosen[0]),
    }
    print(json.dumps(report, indent=1) if options.json else table(report))
    if options.write:
        write_between(options.write, SCRIPT, document(report))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("list", type=Path, help="CSV of the radiographs")
    parser.add_argument("--source", default="nih14", help="rows to use, by their column source")
    parser.add_argument("--images", type=int, default=30, metavar="N")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="K", help="sampling steps")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file to put the figures into")
    parser.add_argument("--concepts", nargs="*", default=[], metavar="NAME", help="findings to paint")
    parser.add_argument("--healthy", default="healthy", metavar="NAME", help="concept of the twins")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="also write contact sheets (patients!)")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--device", metavar="NAME", help="default: the first GPU, else the CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def read(options: argparse.Namespace, row: Row) -> Radiograph:
    """The radiograph of a row."""
    from dino_diffusion.radiograph import Radiograph

    return Radiograph.read(options.list.parent / row["image"])


def random_mask(bundle: ModelBundle, radiograph: Radiograph, number: int) -> np.ndarray:
    """A random ellipse around a place in the lungs, as far as it lies in them; `(H, W)` bool.

    Of ten, the one that lies in them best.
    """
    from dino_diffusion.generation.twin import lungs_mask

    lungs = lungs_mask(bundle, radiograph)
    rng = np.random.default_rng((7, number))
    places, side = np.argwhere(lungs), max(lungs.shape)
    rows, columns = np.indices(lungs.shape, sparse=True)
    best, most = lungs, 0.0
    for _ in range(TRIES):
        row, column = places[rng.integers(len(places))]
        height, width = rng.uniform(0.07, 0.15, 2) * side
        ellipse = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
        share = (lungs & ellipse).sum() / ellipse.sum()
        if share > most:
            best, most = lungs & ellipse, share
    return best


def measure_edit(bundle: ModelBundle, options: argparse.Namespace, row: Row, number: int) -> Figures:
    """Two candidates without a concept; grey values in shown [0, 1]."""
    from dino_diffusion.generation.masks import EditMask
    from dino_diffusion.generation.painting import Inpainting, InpaintSettings

    radiograph = read(options, row)
    mask = random_mask(bundle, radiograph, number)
    edit, settings = EditMask.of(radiograph, mask), InpaintSettings(steps=options.steps)
    shared = Inpainting.of(bundle, radiograph, edit, settings=settings)
    first, second = shared.candidates(2)
    if options.pictures:
        write_sheet(shared, [first, second], options.pictures / f"edit_{number}.png")
    source, ring = radiograph.pixels, border(mask)
    return {
        "change": float(np.abs(first.pixels - source)[mask].mean()),
        "round_trip": float(np.abs(round_trip(shared))[mask].mean()),
        "between_candidates": float(np.abs(first.pixels - second.pixels)[mask].mean()),
        "ring_gradient": gradient(first.pixels, ring),
        "ring_gradient_before": gradient(source, ring),
        "identical_outside": float(np.array_equal(first.stored[~mask], radiograph.stored[~mask])),
    }


def round_trip(shared: Inpainting) -> np.ndarray:
    """`(H, W)`: what the autoencoder alone changes in the window, on the radiograph's grid."""
    import torch

    radiograph, window = shared.radiograph, shared.window
    view = window.grey_to_model(radiograph.pixels)
    change = window.scale.invert((shared.restored.cpu() - view).numpy()) - window.scale.invert(np.zeros(1))
    error = np.zeros(radiograph.shape, np.float32)
    error[window.region] = window.to_source(torch.from_numpy(change))[0, 0]
    return error


def border(mask: np.ndarray) -> np.ndarray:
    """`(H, W)` bool: within RING pixels of the border, on both sides."""
    depth = np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask))
    return depth <= RING


def gradient(pixels: np.ndarray, where: np.ndarray) -> float:
    """Mean length of the grey value's gradient, a pixel."""
    rows, columns = np.gradient(pixels)
    return float(np.hypot(rows, columns)[where].mean())


def summary(edits: list[Figures]) -> dict[str, Any]:
    """Medians and shares over the images."""
    by_name = {name: np.array([edit[name] for edit in edits]) for name in edits[0]}
    ratio = by_name["change"] / by_name["round_trip"]
    gradients = by_name["ring_gradient"] / by_name["ring_gradient_before"]
    return {
        "median": {name: float(np.median(values)) for name, values in by_name.items()},
        "change_over_round_trip": float(np.median(ratio)),
        "share_above_three": float((ratio > 3).mean()),
        "share_of_candidates_that_differ": float(
            (by_name["between_candidates"] > by_name["round_trip"]).mean()
        ),
        "ring_gradient_ratio": float(np.median(gradients)),
        "ring_gradient_ratio_p95": float(np.percentile(gradients, 95)),
        "share_of_rings_no_steeper": float((gradients <= 1).mean()),
        "identical_outside": float(by_name["identical_outside"].min()),
    }


def measure_cost(bundle: ModelBundle, options: argparse.Namespace, row: Row) -> dict[str, Any]:
    """Seconds and memory of one candidate and of four, warm; CPU seconds do not count other programs."""
    import torch

    from dino_diffusion.generation.inpaint import inpaint

    radiograph = read(options, row)
    mask = random_mask(bundle, radiograph, 0)
    work: dict[str, Callable[[], object]] = {
        f"{count}": (lambda count=count: inpaint(bundle, radiograph, mask, candidates=count))
        for count in (1, 4)
    }
    seconds = {name: clocked(task) for name, task in work.items()}
    return {
        "threads": torch.get_num_threads(),
        "seconds": {name: wall for name, (wall, _) in seconds.items()},
        "cpu_seconds": {name: cpu for name, (_, cpu) in seconds.items()},
        "denoiser_pass": median_seconds(denoiser_pass(bundle), 5),
        "peak_gb": peak_gb(options, options.list.parent / row["image"], mask),
    }


def clocked(task: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Wall and CPU seconds, the best of some."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        task()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def peak_gb(options: argparse.Namespace, image: Path, mask: np.ndarray) -> float:
    """Peak resident memory of the command line painting four candidates, in a process of its own, GB."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(Path(folder) / "mask.png")
        arguments = ["inpaint", str(image), "--mask", f"{folder}/mask.png", "-o", folder, "--quiet"]
        arguments += ["--candidates", "4"]
        for name in ("bundle", "device"):
            arguments += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"inpaint failed: {done.stderr.strip()}")
    return int(done.stdout.split()[-1]) / (1e9 if sys.platform == "darwin" else 1024**2)


def write_sheet(shared: Inpainting, made: list[Inpainted], path: Path) -> None:
    """Real patients: for looking at, not for publishing."""
    from dino_diffusion.cli.inpaint import contact_sheet

    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(shared, made, path)


def table(report: dict[str, Any]) -> str:
    """Lines for a person."""
    cost = report["cost"]
    lines = [
        f"bundle {report['bundle']} on {report['device']}, {report['images']} held-out radiographs, "
        f"{report['steps']} steps",
        "",
        *edit_lines(report["edits"]),
        "",
        f"one candidate                   {cost['seconds']['1']:.2f} s ({cost['cpu_seconds']['1']:.2f} CPU "
        f"seconds, {cost['threads']} threads, {cost['seconds']['1'] / cost['denoiser_pass']:.0f} passes)",
        f"four candidates                 {cost['seconds']['4'] / cost['seconds']['1']:.2f} times one",
        f"peak memory, four               {cost['peak_gb']:.2f} GB",
        "",
        *concept_lines(report["concepts"]),
    ]
    return "\n".join(lines)


def document(report: dict[str, Any]) -> str:
    """The same for a Markdown file, without the cost."""
    said = (
        f"Bundle `{report['bundle']}`, {report['images']} held-out radiographs, {report['steps']} steps; "
        "edits of a random ellipse in the lungs without a concept, concepts over both lungs."
    )
    edits = ["```", *edit_lines(report["edits"]), "```"]
    return "\n".join([said, "", *edits, "", *concept_lines(report["concepts"])])


def edit_lines(edits: dict[str, Any]) -> list[str]:
    """What edits without a concept do, for a person."""
    median = edits["median"]
    return [
        f"change inside the mask          {median['change']:.4f} of the grey range",
        f"  over the round-trip error     {edits['change_over_round_trip']:.1f} times "
        f"({median['round_trip']:.4f}); above 3 in {edits['share_above_three']:.0%}",
        f"between two candidates          {median['between_candidates']:.4f}, above the error in "
        f"{edits['share_of_candidates_that_differ']:.0%}",
        f"gradient at the border          {edits['ring_gradient_ratio']:.2f} of the untouched ring's, "
        f"95th percentile {edits['ring_gradient_ratio_p95']:.2f}; no steeper in "
        f"{edits['share_of_rings_no_steeper']:.0%}",
        f"identical outside               {edits['identical_outside']:.0%}",
    ]


if __name__ == "__main__":
    main()
