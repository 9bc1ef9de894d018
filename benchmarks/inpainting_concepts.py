"""Do painted concepts look like their findings to a classifier of real radiographs, and do healthy twins not?

A part of `inpainting.py`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dino_diffusion.evaluation.features import FeatureExtractor
    from dino_diffusion.generation.concept import Concept
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Radiograph

Row = dict[str, Any]
Features = list[np.ndarray]
"""`(N, D)`, one array a network."""

PROBE_IMAGES = 200
"""Of each class, at most."""


def measure_concepts(bundle: ModelBundle, options: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    """How often a probe, trained on real images, moves toward the concept, and back for a healthy twin.

    Both are painted over both lungs of held-out radiographs: concepts over normal ones, beside the healthy
    concept from the same noise, the twin over those with the finding.
    """
    from dino_diffusion.evaluation.probe import Probe
    from dino_diffusion.evaluation.release import feature_nets
    from dino_diffusion.generation.inpaint import inpaint
    from dino_diffusion.generation.library import find_concept
    from dino_diffusion.generation.painting import InpaintSettings
    from dino_diffusion.generation.twin import lungs_mask, prepare, twin_settings
    from dino_diffusion.radiograph import Radiograph

    nets, missing = feature_nets(bundle)
    healthy = find_concept(options.healthy)

    def images(finding: str, split: str, most: int) -> list[Radiograph]:
        chosen = [row for row in rows if row["split"] == split and finding in row["finding"].lower()]
        return [Radiograph.read(options.list.parent / row["image"]) for row in chosen[:most]]

    def seen(radiographs: list[Radiograph]) -> Features:
        return features(bundle, nets, [radiograph.pixels for radiograph in radiographs])

    well = images("normal", "holdout", options.images)
    normal, well_before = seen(images("normal", "train", PROBE_IMAGES)), seen(well)
    masks = [lungs_mask(bundle, radiograph) for radiograph in well]

    def paint(concept: Concept) -> list[np.ndarray]:
        settings, concepts = InpaintSettings(steps=options.steps), [(concept, 1.0)]
        made = [
            inpaint(bundle, r, mask, concepts=concepts, settings=settings)[0]
            for r, mask in zip(well, masks, strict=True)
        ]
        return [item.pixels for item in made]

    cleared = paint(healthy)
    beside = features(bundle, nets, cleared)
    figures: dict[str, Any] = {"missing_nets": missing}
    for name in options.concepts:
        concept = find_concept(name)
        ill = images(name, "holdout", options.images)
        probes = [
            Probe.fit(np.concatenate(pair), np.repeat([True, False], [len(part) for part in pair]))
            for pair in zip(seen(images(name, "train", PROBE_IMAGES)), normal, strict=True)
        ]
        painted = paint(concept)
        chosen = twin_settings(steps=options.steps)
        twins = [prepare(bundle, r, healthy, settings=chosen).candidates(1)[0].pixels for r in ill]
        after, back, ill_before = features(bundle, nets, painted), features(bundle, nets, twins), seen(ill)
        looks = (well_before, beside, after, ill_before, back)
        figures[name] = {
            net.name: shifts(probes[k], *(part[k] for part in looks)) for k, net in enumerate(nets)
        }
        grey = [(a - b)[mask].mean() for a, b, mask in zip(painted, cleared, masks, strict=True)]
        for by in figures[name].values():
            by["grey_beside_healthy"] = float(np.mean(grey))
    return figures


def features(bundle: ModelBundle, nets: list[FeatureExtractor], pictures: list[np.ndarray]) -> Features:
    """Whole pictures as the model sees them, through each network."""
    from dino_diffusion.evaluation.features import extract
    from dino_diffusion.view import ModelView

    views = [ModelView.of(pixels, bundle.size).pixels for pixels in pictures]
    return [extract(net, views) for net in nets]


def shifts(
    probe: Any,
    well: np.ndarray,
    cleared: np.ndarray,
    painted: np.ndarray,
    ill: np.ndarray,
    twins: np.ndarray,
) -> dict[str, float]:
    """Shares that move the right way, beside what the probe is worth on the real images."""
    from dino_diffusion.evaluation.probe import auc

    before = probe.logits(ill), probe.logits(well)
    return {
        "probe_auc_on_real": auc(np.repeat([True, False], [len(ill), len(well)]), np.concatenate(before)),
        "moves_toward": float((probe.logits(painted) > before[1]).mean()),
        "above_healthy": float((probe.logits(painted) > probe.logits(cleared)).mean()),
        "twin_moves_back": float((probe.logits(twins) < before[0]).mean()),
        "n_painted": len(well),
        "n_twins": len(ill),
    }


def concept_lines(figures: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table, a finding and a network each."""
    head = ["concept", "seen by", "moves toward it", "above healthy, same noise", "grey beside healthy"]
    head += ["twins move back", "probe's AUC on real images"]
    lines = [
        f"| {name} | {net} | {by['moves_toward']:.0%} of {by['n_painted']} | {by['above_healthy']:.0%} | "
        f"{by['grey_beside_healthy']:+.3f} | {by['twin_moves_back']:.0%} of {by['n_twins']} | "
        f"{by['probe_auc_on_real']:.2f} |"
        for name, by_net in figures.items()
        if isinstance(by_net, dict)
        for net, by in by_net.items()
    ]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines] if lines else []
