"""Do synthetic radiographs help a classifier of NIH ChestX-ray14, from class means and from concepts?

    python benchmarks/utility.py metadata.csv --work DIR [--workers W] [--quick] [--write docs/utility.md]

For each pair of classes and each size of the pool of real images: a synthetic set from that pool alone by
each method, then classifiers in every arm, tested on images of other patients. Everything is kept in DIR, so
a stopped run goes on where it was, in the background for hours if need be.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from documents import write_between

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.evaluation.utility import ARMS, CLASSICAL, REAL, Study, UtilitySettings
from dino_diffusion.evaluation.utility_images import ImageSet, check_patients
from dino_diffusion.evaluation.utility_intervals import summarise
from dino_diffusion.evaluation.utility_report import figure
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.files.labelled_list import LabelledImage
from dino_diffusion.generation.processes import Launched, jobs, work
from dino_diffusion.generation.sampled import DEFAULT_STEPS
from dino_diffusion.generation.starters import Row, choose, contrasts, findings, read_rows
from dino_diffusion.generation.synthesis import CLASS_MEAN, CONCEPT, Synthesis, SynthesisSettings
from dino_diffusion.generation.synthesize import make, prepare
from dino_diffusion.models import ModelBundle
from dino_diffusion.pictures import save_png

SOURCE, NORMAL = "nih14", "normal"
PAIRS = ("Pneumonia", "Effusion")
POOLS = (20, 50, 100)
METHODS = (CLASS_MEAN, CONCEPT)
AUGMENTED_BOTH = "real + synthetic, classical augmentation"
"""An arm for `--augment-both`: a fifth of the time of all arms with synthetic images."""

OTHERS = 150
"""Test images of a class beside those that were held out: of the denoiser's training images (without label),
but of patients in no pool."""


@dataclass(frozen=True)
class Pair:
    """Pools by size, and the test images, of which those with `held_out` were never seen by any model."""

    finding: str
    pools: dict[int, list[LabelledImage]]
    test: list[LabelledImage]
    held_out: np.ndarray

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        folder: Path,
        contrast: Mapping[str, float],
        finding: str,
        sizes: Sequence[int],
        others: int,
    ) -> Pair:
        """From rows of one source, by patient: nobody is both in a pool and in the test."""
        labels = (NORMAL, finding)

        def listed(chosen: Sequence[Row], label: str) -> list[LabelledImage]:
            return [LabelledImage(folder / row["image"], label, row["patient_id"]) for row in chosen]

        pools = {
            size: [i for label in labels for i in listed(choose(rows, label, contrast, size // 2), label)]
            for size in sizes
        }
        taken = {image.patient for pool in pools.values() for image in pool}
        away = [row for row in rows if row["patient_id"] not in taken]
        held_out, rest = [], []
        for label in labels:
            held_out += listed(
                [row for row in away if row["split"] == "holdout" and label in findings(row)], label
            )
            rest += listed(choose(away, label, contrast, others) if others else [], label)
        for pool in pools.values():
            check_patients(pool, held_out + rest)
        return cls(finding, pools, held_out + rest, np.arange(len(held_out) + len(rest)) < len(held_out))

    def counts(self) -> str:
        """How many images of the finding and without any, in pools and test."""

        def told(images: Sequence[LabelledImage]) -> str:
            sick = sum(image.label == self.finding for image in images)
            patients = len({image.patient for image in images})
            return f"{sick} + {len(images) - sick} of {patients} patients"

        held_out = [image for image, out in zip(self.test, self.held_out, strict=True) if out]
        pools = "; ".join(f"pool of {size}: {told(pool)}" for size, pool in self.pools.items())
        return f"{self.finding} + {NORMAL}: {pools}; test: {told(self.test)}, held out: {told(held_out)}"


class Benchmark:
    """Sets and studies, each kept in the work folder."""

    def __init__(self, bundle: ModelBundle, options: argparse.Namespace) -> None:
        self.bundle, self.options = bundle, options
        self.work = options.work / bundle.id
        self.seconds: dict[str, float] = {}

    def synthetic(self, pool: Sequence[LabelledImage], method: str) -> list[LabelledImage]:
        """The set from a pool: label by label, because the normal ones serve every pair."""
        found = []
        for seed, label in enumerate((NORMAL, *PAIRS)):
            own = [image for image in pool if image.label == label]
            if not own:
                continue
            settings = SynthesisSettings(
                method, seed, self.options.sampling_steps, inversion_steps=self.options.inversion_steps
            )
            folder = self.work / "sets" / f"{label.lower()}-{len(own)}-{method}"
            synthesis = Synthesis.of(own, self.options.images // 2, folder, settings)
            self._make(synthesis)
            found += [LabelledImage(folder / picture.file, label) for picture in synthesis.planned()]
        return found

    def _make(self, synthesis: Synthesis) -> None:
        started = time.perf_counter()
        prepare(self.bundle, synthesis)
        self._took(f"preparing, {synthesis.settings.method}", started)
        started = time.perf_counter()
        if self.options.workers == 1:
            made = make(self.bundle, synthesis)
        else:
            device = str(self.bundle.device)
            made = work(
                jobs(synthesis, self.options.bundle, device, self.options.workers, Launched(), hush_libraries)
            )
        for _ in made:
            pass
        self._took("making pictures", started)

    def measure(self, pair: Pair, size: int) -> dict[str, Any]:
        """Arms on the whole test and on its held-out part alone."""
        pool = pair.pools[size]
        print(f"{pair.finding}, pool of {size} ...", flush=True)
        synthetic = {method: self.synthetic(pool, method) for method in METHODS}

        def read(images: Sequence[LabelledImage]) -> ImageSet:
            return ImageSet.read(images, pair.finding)

        study = Study(
            read(pool),
            {method: read(images) for method, images in synthetic.items()},
            read(pair.test),
            UtilitySettings(self.options.seeds, self.options.steps),
            device=self.bundle.device,
            kept=self.work / "trainings",
            arms=tuple(arm for arm in ARMS if self.options.augment_both or arm.name != AUGMENTED_BOTH),
        )
        started = time.perf_counter()
        scores = study.run()
        self._took("training classifiers", started)
        held_out = {name: rows[:, pair.held_out] for name, rows in scores.items()}
        patients = [image.patient for image, out in zip(pair.test, pair.held_out, strict=True) if out]
        labels = study.test.labels[pair.held_out]
        return (
            {"finding": pair.finding, "pool": size}
            | study.report(scores)
            | {"held_out": summarise(held_out, labels, patients, (REAL, CLASSICAL))}
        )

    def _took(self, what: str, since: float) -> None:
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - since


def main() -> None:
    """Measures, prints, and writes table and figure where that was asked for."""
    options = parse()
    hush_libraries()
    rows = [row for row in read_rows(options.data) if row["source"] == SOURCE]
    folder = options.data.parent
    contrast = contrasts(folder, rows)
    pairs = [
        Pair.of(rows, folder, contrast, finding, options.pools, options.others)
        for finding in PAIRS[: options.pairs]
    ]
    for pair in pairs:
        print(pair.counts(), flush=True)
    bundle = ModelBundle.from_pretrained(options.bundle)
    benchmark = Benchmark(bundle, options)
    measured = [benchmark.measure(pair, size) for pair in pairs for size in options.pools]
    with atomic_path(benchmark.work / "utility.json") as temporary:
        temporary.write_text(json.dumps(measured, indent=1))
    print("; ".join(f"{what}: {seconds:.0f} s" for what, seconds in benchmark.seconds.items()))
    text = "\n".join(report(bundle, options, pairs, measured))
    print(text)
    if options.write:
        picture = np.concatenate([panels(measured, pair.finding) for pair in pairs])
        save_png(picture, options.write.with_suffix(".png"))
        write_between(options.write, "benchmarks/utility.py", text)


def report(
    bundle: ModelBundle,
    options: argparse.Namespace,
    pairs: Sequence[Pair],
    measured: Sequence[dict[str, Any]],
) -> list[str]:
    """Counts and one table: a row an arm, a column a pair and pool, on the whole test."""
    lines = [
        f"Bundle `{bundle.id}`; {options.images} synthetic images a pool and method, {options.seeds} seeds, "
        f"{options.steps} steps of {UtilitySettings().batch} pictures in every arm, "
        f"{options.inversion_steps} steps of inversion.",
        "",
        *(f"- {pair.counts()}" for pair in pairs),
        "",
        "AUC with its 95 % confidence interval; in brackets the difference to classical augmentation with "
        "its own, bold where that excludes 0; last the AUC on held-out images alone.",
        "",
        row(["arm", *(f"{found['finding'].lower()}, {found['pool']} real" for found in measured)]),
        row(["---"] * (1 + len(measured))),
    ]
    for number, arm in enumerate(measured[0]["arms"]):
        lines.append(row([arm["name"], *(cell(found, number) for found in measured)]))
    return lines


def cell(found: dict[str, Any], number: int) -> str:
    """Of one arm."""
    arm, held_out = found["arms"][number], found["held_out"][number]
    text = f"{arm['auc']:.3f} ({span(arm['auc_ci'], '.3f')})"
    if CLASSICAL in arm["gain"]:
        gain, ends = arm["gain"][CLASSICAL], arm["gain_ci"][CLASSICAL]
        told = f"[{gain:+.3f}, {span(ends, '+.3f')}]"
        text += f" **{told}**" if ends and (ends[0] > 0 or ends[1] < 0) else f" {told}"
    return f"{text}; {held_out['auc']:.3f}"


def span(ends: Sequence[float] | None, form: str) -> str:
    """An interval, or what says that there is none."""
    return f"{ends[0]:{form}} to {ends[1]:{form}}" if ends else "-"


def panels(measured: Sequence[dict[str, Any]], finding: str) -> np.ndarray:
    """A panel a pool."""
    own = [found for found in measured if found["finding"] == finding]
    titled = [(f"{found['pool']} real images", found["arms"]) for found in own]
    return figure(titled, f"{finding} against {NORMAL}, AUC by arm", 640 + 360 * len(own))


def row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def parse() -> argparse.Namespace:
    """The command line's options; `--quick` proves that everything runs and measures nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="metadata.csv of the development data")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps what was made")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--pools", type=int, nargs="+", default=POOLS, metavar="N", help="real images")
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help=f"the first of {', '.join(PAIRS)}")
    parser.add_argument(
        "--images", type=int, default=100, metavar="N", help="synthetic ones a pool and method"
    )
    parser.add_argument("--augment-both", action="store_true", help=f"also: {AUGMENTED_BOTH}")
    parser.add_argument("--others", type=int, default=OTHERS, metavar="N", help="test images beside held-out")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--steps", type=int, default=120, metavar="N", help="training steps of a classifier")
    parser.add_argument("--sampling-steps", type=int, default=DEFAULT_STEPS, metavar="N")
    parser.add_argument("--inversion-steps", type=int, default=60, metavar="N")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that make pictures")
    parser.add_argument("--quick", action="store_true", help="tiny everything: proves that it runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file to put the table into")
    options = parser.parse_args()
    if options.quick:
        options.pools, options.pairs, options.images, options.others = (20,), 1, 4, 0
        options.seeds, options.steps, options.sampling_steps, options.inversion_steps = 2, 2, 2, 1
    return options


if __name__ == "__main__":
    main()
