"""Regions on demand: what the first call and each answer take, and how well regions match lungs.

    python benchmarks/regions.py [IMAGE] [--bundle PATH|HUB] [--device NAME] [--repeats N] [--json]
    python benchmarks/regions.py --data LIST.csv [--limit N] ...      the quality on its dev masks as well

The first call is given as a multiple of `segment_lungs`, measured in the same run; answers in milliseconds,
on the image and on one of 4,000 px. Quality is an ORACLE's: the reference mask picks the best region, or
makes the clicks, so it says what an annotator can reach and not what the program finds alone. Beside ours
stand the same hierarchy from grey alone and from a denoiser of random weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt, zoom
from timing import median_seconds

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Radiograph
    from dino_diffusion.segmentation.regions import Regions

LARGE = 4000
GRANULARITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
CLICKS = (1, 2, 3, 5, 10)
LUNGS = (1, 2)


def main() -> None:
    """Times first, then quality where data is named."""
    options = parse()
    from dino_diffusion.cli.console import hush_libraries

    hush_libraries()
    from speed import sample_image

    from dino_diffusion.device import choose_device
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Radiograph

    bundle = ModelBundle.from_pretrained(options.bundle, choose_device(options.device))
    image = Radiograph.read(options.image or sample_image())
    report: dict[str, Any] = {"bundle": bundle.id, "device": str(bundle.device), "repeats": options.repeats}
    report["times"] = [times(bundle, each, options.repeats) for each in (image, enlarged(image))]
    if options.data:
        report["quality"] = quality(bundle, options.data, options.limit)
    print(json.dumps(report, indent=1) if options.json else "\n".join(table(report)))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", nargs="?", type=Path, help="radiograph (default: a shipped sample)")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--device", metavar="NAME", help="default: the first GPU, else the CPU")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="median of N warm calls")
    parser.add_argument("--data", type=Path, metavar="LIST.csv", help="list with split, image and mask")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="that many dev images, spread")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def enlarged(radiograph: Radiograph) -> Radiograph:
    """The same picture with `LARGE` pixels along its longest side."""
    from dino_diffusion.radiograph import Radiograph

    pixels = zoom(radiograph.pixels, LARGE / max(radiograph.shape), order=1)
    return Radiograph.from_array(np.clip(pixels, 0, 1), name="enlarged")


def times(bundle: ModelBundle, radiograph: Radiograph, repeats: int) -> dict[str, Any]:
    """Seconds of `segment_lungs` and of the first call, and milliseconds of every kind of answer."""
    from dino_diffusion.segmentation import segment_lungs
    from dino_diffusion.segmentation.regions import regions
    from dino_diffusion.segmentation.selection import Selection

    # Alternating, so that another program on the same cores slows both alike.
    segment, first = [], []
    for _ in range(repeats):
        segment.append(median_seconds(lambda: segment_lungs(bundle, radiograph), 1))
        first.append(median_seconds(lambda: regions(bundle, radiograph), 1))
    found = regions(bundle, radiograph)
    middle = (radiograph.shape[0] // 2, radiograph.shape[1] // 3)
    clicked = Selection.empty(found).click(*middle, 0.2)
    answers: dict[str, Callable[[], object]] = {
        "granularity": lambda: [found.labels(granularity) for granularity in GRANULARITIES],
        "hover": lambda: [found.at(*middle, granularity) for granularity in GRANULARITIES],
        "click": lambda: [clicked.click(*middle, granularity).mask for granularity in GRANULARITIES],
    }
    return {
        "shape": list(radiograph.shape),
        "segment_s": statistics.median(segment),
        "first_call_s": statistics.median(first),
        "first_call_in_segments": statistics.median(b / a for a, b in zip(segment, first, strict=True)),
        "answer_ms": {
            name: 1000 * median_seconds(work, repeats) / len(GRANULARITIES) for name, work in answers.items()
        },
    }


def quality(bundle: ModelBundle, data: Path, limit: int) -> dict[str, Any]:
    """Mean over lungs and images of what an oracle reaches with each hierarchy."""
    import torch

    from dino_diffusion.evaluation.ablations import random_denoiser
    from dino_diffusion.evaluation.labelfiles import read_labels
    from dino_diffusion.radiograph import Radiograph
    from dino_diffusion.segmentation import observe
    from dino_diffusion.segmentation.regions import hierarchy, regions, regions_of

    with open(data, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "dev" and row["mask"]]
    rows = rows[:: max(1, len(rows) // limit)][:limit]
    untrained = random_denoiser(bundle)
    scores: dict[str, list[dict[str, float]]] = {"ours": [], "grey alone": [], "random denoiser": []}
    for row in rows:
        radiograph = Radiograph.read(data.parent / row["image"])
        mask = read_labels(data.parent / row["mask"])[0]
        observation = observe(bundle, radiograph, attention=True)
        nothing = torch.zeros(1, *observation.view.pixels.shape[-2:])
        found = {
            "ours": regions_of(observation),
            "grey alone": hierarchy(observation, nothing),
            "random denoiser": regions(untrained, radiograph),
        }
        for name, each in found.items():
            scores[name] += [oracle(each, mask == lung) for lung in LUNGS if (mask == lung).any()]
    means = {
        name: {measure: statistics.fmean(score[measure] for score in found) for measure in found[0]}
        for name, found in scores.items()
    }
    return {"images": len(rows), "oracle": means}


def oracle(found: Regions, mask: np.ndarray) -> dict[str, float]:
    """Best single region at each granularity and of the whole tree, and what clicks reach, in Dice."""
    scores = {}
    for granularity in GRANULARITIES:
        labels = found.labels(granularity)
        inside, size = np.bincount(labels[mask], minlength=256), np.bincount(labels.ravel(), minlength=256)
        scores[f"region at {granularity:g}"] = float((2 * inside / (size + mask.sum())).max())
    scores["best region"] = best_node(found, mask)
    return scores | clicked(found, mask)


def best_node(found: Regions, mask: np.ndarray) -> float:
    """Dice of the best region among those of every granularity, on the grid where outlines are drawn."""
    rows, columns = (np.arange(n) * full // n for n, full in zip(found.pieces.shape, mask.shape, strict=True))
    mask = mask[np.ix_(rows, columns)]
    parents = found.tree.parents
    inside = np.bincount(found.pieces[mask], minlength=len(parents))
    size = np.bincount(found.pieces.ravel(), minlength=len(parents))
    for node, parent in enumerate(parents[:-1]):  # children come before their parents
        inside[parent] += inside[node]
        size[parent] += size[node]
    return float((2 * inside / (size + mask.sum())).max())


def clicked(found: Regions, mask: np.ndarray) -> dict[str, float]:
    """Dice after each of `CLICKS`, in the middle of the largest mistake that is left.

    The granularity of each is the one whose preview suits best, as an annotator sees it before the click.
    """
    from dino_diffusion.segmentation.selection import Selection

    def dice(selection: Selection) -> float:
        return float(2 * (selection.mask & mask).sum() / (selection.mask.sum() + mask.sum()))

    step = max(1, max(mask.shape) // 256)  # the middle need not be exact
    selection, scores = Selection.empty(found), {}
    for number in range(1, CLICKS[-1] + 1):
        wrong = (selection.mask != mask)[::step, ::step]
        taken = selection.mask[::step, ::step]
        depth = np.maximum(*(distance_transform_edt(np.pad(wrong & side, 1)) for side in (taken, ~taken)))
        row, column = np.unravel_index(depth[1:-1, 1:-1].argmax(), wrong.shape)
        if wrong.any():
            pixel = (int(row) * step, int(column) * step)
            selection = max((selection.click(*pixel, granularity) for granularity in GRANULARITIES), key=dice)
        if number in CLICKS:
            scores[f"clicks: {number}"] = dice(selection)
    return scores


def table(report: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    lines = [f"bundle {report['bundle']} on {report['device']}, median of {report['repeats']}", ""]
    head = ("segment", "first call", "ratio", "granularity", "hover", "click")
    lines.append(f"{'':<14}" + "".join(f"{name:>13}" for name in head))
    for row in report["times"]:
        cells = [f"{row['segment_s']:.3f} s", f"{row['first_call_s']:.3f} s"]
        cells += [f"{row['first_call_in_segments']:.2f}"]
        cells += [f"{row['answer_ms'][name]:.1f} ms" for name in head[3:]]
        lines.append(f"{row['shape'][1]} x {row['shape'][0]:<7}" + "".join(f"{cell:>13}" for cell in cells))
    if found := report.get("quality"):
        lines += ["", f"Dice an oracle reaches on {found['images']} dev images, mean of the lungs"]
        lines.append(f"{'':<18}" + "".join(f"{name:>18}" for name in found["oracle"]))
        for measure in found["oracle"]["ours"]:
            cells = [f"{scores[measure]:.3f}" for scores in found["oracle"].values()]
            lines.append(f"{measure:<18}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


if __name__ == "__main__":
    main()
