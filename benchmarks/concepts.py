"""Are learnt concepts better than the class mean, and how many vectors and images do they take?

    python benchmarks/concepts.py metadata.csv --work DIR [--quick] [--write docs/concepts.md]

Everything that was measured is kept in DIR, so a stopped run goes on where it was. Two questions, on images
of patients that no concept was learnt from: how well does the denoiser restore them with the concept alone
(flow loss, paired noise), and do pictures made of the concept look to a probe like the class?
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from documents import write_between

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.evaluation.concepts import ClassProbes, losses, pictures_of, prepared
from dino_diffusion.evaluation.intervals import interval
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.conditioning import mean_of
from dino_diffusion.generation.inversion import InversionSettings
from dino_diffusion.generation.invert import DEFAULT_STEPS, DEFAULT_VECTORS, learn, run_settings
from dino_diffusion.generation.starters import NORMAL, Row, choose, contrasts, findings, read_rows
from dino_diffusion.models import ModelBundle
from dino_diffusion.training.latents import LatentCache

SOURCE = "nih14"
CLASSES = ("Effusion", "Cardiomegaly", "Pneumonia", "Consolidation", "Atelectasis", "Infiltration")
ABLATED = "Effusion"
VECTORS, IMAGES = (1, 8, 32, 64), (5, 10, 50, 100)
VIEWS, HELD_OUT, PROBED = 3, 48, 200
SCRIPT = "benchmarks/concepts.py"


def main() -> None:
    """Measures, prints, and writes the tables where that was asked for."""
    options = parse()
    hush_libraries()
    bundle = ModelBundle.from_pretrained(options.bundle)
    study = Study(bundle, read_rows(options.data), options)
    classes = CLASSES[:2] if options.quick else CLASSES
    compared = [study.arm(finding, DEFAULT_VECTORS, 100) for finding in classes]
    by_vectors = [study.arm(ABLATED, count, 100) for count in VECTORS]
    by_images = [study.arm(ABLATED, DEFAULT_VECTORS, count) for count in IMAGES]
    text = "\n".join(
        [
            f"Bundle `{bundle.id}`, {options.steps} steps of 8 pictures, {options.pictures} pictures an arm.",
            "",
            *comparison(compared),
            "",
            *ablation(by_vectors, by_images),
        ]
    )
    print(text)
    if options.write:
        write_between(options.write, SCRIPT, text)


class Study:
    """One arm after the other, each kept in the work folder once it is measured."""

    def __init__(self, bundle: ModelBundle, rows: list[Row], options: argparse.Namespace) -> None:
        self.bundle, self.options = bundle, options
        self.rows = [row for row in rows if row["source"] == SOURCE]
        self.training = [row for row in self.rows if row["split"] == "train"]
        self.work = options.work / bundle.id
        self.contrast = self._contrast(options.work / "contrast.json")
        self._probes: dict[str, ClassProbes] = {}

    def arm(self, finding: str, vectors: int, images: int) -> dict[str, Any]:
        """Figures of the concept with that many vectors, learnt from that many images."""
        name = f"{finding}-{vectors}-{images}-{self.options.steps}-{self.options.pictures}.json"
        kept = self.work / "arms" / name
        if not kept.exists():
            print(f"measuring {kept.stem} ...", flush=True)
            found = self._measure(finding, vectors, images)
            with atomic_path(kept) as temporary:
                temporary.write_text(json.dumps(found, indent=1))
        return json.loads(kept.read_text())

    def _measure(self, finding: str, vectors: int, images: int) -> dict[str, Any]:
        chosen = choose(self.training, finding, self.contrast)
        taken = chosen[:: max(1, len(chosen) // images)][:images]
        training = self._cache(taken, f"{finding}-{len(taken)}", VIEWS)
        whole = self._cache(taken, f"{finding}-{len(taken)}-whole", 1)
        unseen = self._held_out(finding, chosen)
        held_out = self._cache(unseen, f"{finding}-held-out", 1)
        folder = self.work / "runs" / f"{finding}-{vectors}-{images}-{self.options.steps}"
        settings = InversionSettings(vectors, VIEWS, run=run_settings(folder, self.options.steps, 0))
        concepts = {
            "class mean": mean_of(self.bundle, whole.cls, finding),
            "learnt": learn(self.bundle, training, finding, settings, {}),
        }
        loss = {"nothing": losses(self.bundle, held_out, None)}
        loss |= {arm: losses(self.bundle, held_out, concept) for arm, concept in concepts.items()}
        probes, logits = self._probes_of(finding), self._logits(finding, concepts)
        return {
            "finding": finding,
            "vectors": vectors,
            "images": len(taken),
            "held_out": len(unseen),
            "loss": {arm: float(values.mean()) for arm, values in loss.items()},
            "gain": paired(loss["learnt"] - loss["class mean"]),
            "gain_over_nothing": paired(loss["learnt"] - loss["nothing"]),
            "auc": dict(probes.aucs),
            "logit": {arm: {n: float(v.mean()) for n, v in found.items()} for arm, found in logits.items()},
            "moved": {n: paired(logits["learnt"][n] - logits["class mean"][n]) for n in probes.aucs},
        }

    def _logits(self, finding: str, concepts: dict[str, Concept]) -> dict[str, dict[str, np.ndarray]]:
        probes = self._probes_of(finding)
        return {
            arm: probes.logits(pictures_of(self.bundle, concept, self.options.pictures))
            for arm, concept in concepts.items()
        }

    def _held_out(self, finding: str, chosen: list[Row]) -> list[Row]:
        """Images with the finding, of other patients than those chosen to learn from."""
        away = {row["patient_id"] for row in chosen}
        rest = [row for row in self.rows if row["patient_id"] not in away]
        return choose(rest, finding, self.contrast, HELD_OUT)

    def _probes_of(self, finding: str) -> ClassProbes:
        if finding not in self._probes:
            sick, well = (choose(self.rows, name, self.contrast, PROBED) for name in (finding, NORMAL))
            cache = self._cache(sick + well, f"{finding}-probe", 1)
            labels = np.array([finding in findings(row) for row in sick + well])
            patients = [row["patient_id"] for row in sick + well]
            latents = cache.latents[self.bundle.size]
            self._probes[finding] = ClassProbes.fit(self.bundle, latents, labels, patients)
        return self._probes[finding]

    def _contrast(self, kept: Path) -> dict[str, float]:
        if not kept.exists():
            print("measuring the contrast of every image ...", flush=True)
            found = contrasts(self.options.data.parent, self.rows)
            with atomic_path(kept) as temporary:
                temporary.write_text(json.dumps(found))
        return json.loads(kept.read_text())

    def _cache(self, rows: Sequence[Row], name: str, views: int) -> LatentCache:
        paths = [self.options.data.parent / row["image"] for row in rows]
        return prepared(self.bundle, paths, self.work / "latents" / name, views)


def paired(differences: np.ndarray) -> dict[str, Any]:
    """Mean of paired differences and its 95 % bootstrap interval."""
    return {"mean": float(differences.mean()), "ci": interval(differences), "n": len(differences)}


def comparison(arms: list[dict[str, Any]]) -> list[str]:
    """Learnt concepts beside their class means, a row a class."""
    networks = list(arms[0]["auc"])
    head = ["class", "images / held out", "flow loss: nothing", "class mean", "learnt", "learnt - mean"]
    head += [f"{name}: AUC on real, logit of mean's / learnt's pictures, moved by" for name in networks]
    lines = [row(head), row(["---"] * len(head))]
    for arm in arms:
        loss = arm["loss"]
        cells = [arm["finding"].lower(), f"{arm['images']} / {arm['held_out']}"]
        cells += [f"{loss[name]:.4f}" for name in ("nothing", "class mean", "learnt")]
        cells.append(said(arm["gain"], 4))
        for name in networks:
            mean, learnt = (arm["logit"][which][name] for which in ("class mean", "learnt"))
            cells.append(
                f"{arm['auc'][name]:.2f}, {mean:+.2f} / {learnt:+.2f}, {said(arm['moved'][name], 2)}"
            )
        lines.append(row(cells))
    return lines


def ablation(by_vectors: list[dict[str, Any]], by_images: list[dict[str, Any]]) -> list[str]:
    """How the gain over the class mean depends on vectors and images."""
    networks = list(by_vectors[0]["auc"])
    head = ["vectors", "images", "learnt - mean, held-out flow loss", "learnt - nothing"]
    head += [f"{name}: logit of pictures" for name in networks]
    lines = [row(head), row(["---"] * len(head))]
    for arm in [*by_vectors, *by_images]:
        cells = [
            str(arm["vectors"]),
            str(arm["images"]),
            said(arm["gain"], 4),
            said(arm["gain_over_nothing"], 4),
        ]
        lines.append(row(cells + [f"{arm['logit']['learnt'][name]:+.2f}" for name in networks]))
    return lines


def said(figure: dict[str, Any], digits: int) -> str:
    """Mean and interval."""
    low, high = figure["ci"] or (float("nan"),) * 2
    return f"{figure['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="metadata.csv of the development data")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps what was measured")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, metavar="N")
    parser.add_argument("--pictures", type=int, default=24, metavar="N", help="pictures an arm")
    parser.add_argument("--quick", action="store_true", help="two classes instead of six")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file to put the tables into")
    return parser.parse_args()


if __name__ == "__main__":
    main()
