"""What one corrected example gives: learn from it, label the rest, beside the label-free lungs.

    python benchmarks/oneshot.py [--data LIST.csv] [--choices 10] [--limit 150 | --all] [--zones] [--json]
    python benchmarks/oneshot.py --images DIR --masks DIR   # any structure: masks named like their images

Examples are drawn with a fixed seed and are never among the images that are labelled. Each choice of one
example is measured by itself, so that the spread shows what the choice costs; `--several` examples are taught
together, in as many draws. The label-free row has the very same images. `--zones` learns the upper, middle
and lower zone of each lung instead, whose masks follow from the lungs'.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.errors import DinoDiffusionError

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Radiograph
    from dino_diffusion.segmentation.embedding import SegmentEmbedding

Pair = tuple[Path, Path]


def main() -> None:
    """Learns, labels and prints."""
    options = parse()
    hush_libraries()
    try:
        report = measure(options)
    except DinoDiffusionError as error:
        sys.exit(str(error))
    print(json.dumps(report, indent=1) if options.json else "\n".join(table(report)))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr/metadata.csv"), metavar="CSV")
    parser.add_argument("--split", default="dev", help="whose masks are used; settings were chosen on dev")
    parser.add_argument("--images", type=Path, metavar="DIR", help="instead of a list, with --masks")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="labelmaps called like their images")
    parser.add_argument("--choices", type=int, default=10, metavar="N", help="draws of one example")
    parser.add_argument("--several", type=int, default=5, metavar="K", help="examples taught together")
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="draws of several examples")
    parser.add_argument("--limit", type=int, default=150, metavar="N", help="label N of the other images")
    parser.add_argument("--all", dest="limit", action="store_const", const=None, help="label all others")
    parser.add_argument("--zones", action="store_true", help="learn the lungs' zones instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--device", metavar="NAME", help="default: the first GPU, else the CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def pairs_of(options: argparse.Namespace) -> list[Pair]:
    """Image and mask files."""
    if options.images and options.masks:
        from dino_diffusion.evaluation.labelfiles import pair_by_stem

        return pair_by_stem(options.images, options.masks).matched
    from dino_diffusion.evaluation.release import list_rows

    rows = [row for row in list_rows(options.data) if row.get("split") == options.split and row.get("mask")]
    return [(options.data.parent / row["image"], options.data.parent / row["mask"]) for row in rows]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Dice of every draw on the same images, none of which any draw has seen."""
    from dino_diffusion.device import choose_device
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.segmentation import lungs_of, observe
    from dino_diffusion.segmentation.learnt import segment_seen
    from dino_diffusion.segmentation.sights import Sights

    bundle = ModelBundle.from_pretrained(options.bundle, choose_device(options.device))
    pairs = pairs_of(options)
    order = np.random.default_rng(options.seed).permutation(len(pairs)).tolist()
    draws = drawn(order, options.choices, options.several, options.draws)
    used = {index for draw in draws for index in draw}
    tested = [index for index in order if index not in used][: options.limit]
    if not tested:
        sys.exit(f"{len(pairs)} pairs are too few: every one is an example; draw fewer with --choices.")
    embeddings, seconds = [], []
    for draw in tqdm(draws, "learning"):
        embedding, spent = learnt_from(bundle, [pairs[index] for index in draw], options.zones)
        embeddings.append(embedding)
        seconds.append(spent)
    scores: list[list[float]] = [[] for _ in draws]
    free: list[float] = []
    clocks = []
    values = sorted({value for embedding in embeddings for value in embedding.values})
    for index in tqdm(tested, "labelling"):
        radiograph, mask = read(pairs[index], options.zones)
        start = time.perf_counter()
        observation = observe(bundle, radiograph)
        observed = time.perf_counter()
        plain = lungs_of(bundle, observation).labelmap.labels
        lungs = time.perf_counter()
        free.append(dice(plain, mask, values))
        sights = Sights(bundle, observation)
        for number, (embedding, found) in enumerate(zip(embeddings, scores, strict=True)):
            began = time.perf_counter()
            labels = segment_seen(sights, [embedding]).labelmap.labels
            if not number:  # the others find what this one had to look at
                clocks.append((observed - start + time.perf_counter() - began) / (lungs - start))
            found.append(dice(labels, mask, embedding.values))
    groups = {"one": scores[: options.choices], "several": scores[options.choices :]}
    return {
        "bundle": bundle.id,
        "structure": "zones" if options.zones else "labels " + ", ".join(map(str, values)),
        "n": len(tested),
        "label_free": statistics.mean(free) if {1, 2} >= set(values) else None,
        "groups": {name: summary(found) for name, found in groups.items() if found},
        "several": options.several,
        "learn_seconds": {"one": seconds[: options.choices], "several": seconds[options.choices :]},
        "apply_over_plain": statistics.median(clocks),
        "one_per_choice": [statistics.mean(found) for found in groups["one"]],
    }


def drawn(order: Sequence[int], choices: int, several: int, draws: int) -> list[list[int]]:
    """Indices of the examples: each single one, then groups that begin with those."""
    single = [[index] for index in order[:choices]]
    groups = [list(order[number * several : (number + 1) * several]) for number in range(draws)]
    return single + [group for group in groups if len(group) == several]


def read(pair: Pair, zones: bool) -> tuple[Radiograph, np.ndarray]:
    """An image and its mask on the image's grid."""
    from dino_diffusion.files.read_labels import read_labels
    from dino_diffusion.radiograph import Radiograph
    from dino_diffusion.segmentation.zones import lung_zones

    radiograph = Radiograph.read(pair[0])
    mask = read_labels(pair[1], radiograph)
    return radiograph, lung_zones(mask) if zones else mask


def learnt_from(bundle: ModelBundle, pairs: Sequence[Pair], zones: bool) -> tuple[SegmentEmbedding, float]:
    """An embedding and the seconds it took, reading the files included."""
    from dino_diffusion.segmentation.learn import learn

    start = time.perf_counter()
    embedding = learn(bundle, [read(pair, zones) for pair in pairs], "example")
    return embedding, time.perf_counter() - start


def dice(labels: np.ndarray, mask: np.ndarray, values: Sequence[int]) -> float:
    """Mean over the labels; absent from both counts as 1."""
    found = []
    for value in values:
        ours, theirs = labels == value, mask == value
        total = int(ours.sum() + theirs.sum())
        found.append(2 * int((ours & theirs).sum()) / total if total else 1.0)
    return statistics.mean(found)


def summary(scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean over draws of the mean over images, its spread over draws, and the 5th percentile of images."""
    means = [statistics.mean(found) for found in scores]
    return {
        "draws": len(means),
        "dice": statistics.mean(means),
        "sd": statistics.stdev(means) if len(means) > 1 else 0.0,
        "worst": min(means),
        "best": max(means),
        "p5": float(np.percentile(np.concatenate(scores), 5)),
    }


def table(report: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    lines = [
        f"bundle {report['bundle']}, {report['structure']}, {report['n']} images",
        "",
        f"{'':<22}{'draws':>6}{'Dice':>8}{'sd':>8}{'worst':>8}{'best':>8}{'p5':>8}{'learn, s':>10}",
    ]
    if report["label_free"] is not None:
        lines.append(f"{'label-free':<22}{'':>6}{report['label_free']:>8.3f}")
    names = {"one": "one example", "several": f"{report['several']} examples"}
    for name, found in report["groups"].items():
        seconds = statistics.median(report["learn_seconds"][name])
        figures = "".join(f"{found[key]:>8.3f}" for key in ("dice", "sd", "worst", "best", "p5"))
        lines.append(f"{names[name]:<22}{found['draws']:>6}{figures}{seconds:>10.1f}")
    return [*lines, "", f"applying takes {report['apply_over_plain']:.2f} times plain segmentation"]


if __name__ == "__main__":
    main()
