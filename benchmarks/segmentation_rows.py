"""The rows of `segmentation.py`: each makes, from the same files and recipes, what labels a file."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segmentation_attention import attention_walk, merged_by_attention, normalised_cut, tokens
from segmentation_bench import Bench, Segment
from timing import denoiser_pass, median_seconds
from torch.nn import functional
from tqdm import tqdm

from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG
from dino_diffusion.evaluation import EvaluationError, ablations
from dino_diffusion.evaluation.labelfiles import read_labels
from dino_diffusion.evaluation.lungs import label_file, label_file_with, prediction_of
from dino_diffusion.evaluation.segmentation import Prediction, score_pairs
from dino_diffusion.evaluation.supervised import folds_of, train_unet, unet_lungs
from dino_diffusion.evaluation.threshold import threshold_lungs
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.learn import Example, learn
from dino_diffusion.segmentation.lungs import lungs_of
from dino_diffusion.segmentation.observation import observe

CHOICES = 5
"""Choices of the examples of a taught row, at most: each labels as many images, so none decides alone."""

FINE_PATCHES = 32
"""Patches along the side for the finer DINO row: as fine as the denoiser's features."""


def ours(bench: Bench) -> Segment:
    return lambda path: label_file(bench.bundle, path)


def refitted(bench: Bench) -> Segment:
    bundle = bench.fitted(bench.bundle)
    return lambda path: label_file(bundle, path)


def random_denoiser(bench: Bench) -> Segment:
    bundle = bench.fitted(ablations.random_denoiser(bench.bundle))
    return lambda path: label_file(bundle, path)


def patches(bench: Bench) -> Segment:
    return _patches(bench, None)


def fine_patches(bench: Bench) -> Segment:
    return _patches(bench, FINE_PATCHES * bench.bundle.encoder.patch_size)


def _patches(bench: Bench, image_size: int | None) -> Segment:
    bundle = ablations.patches_alone(bench.bundle, image_size)
    width = bundle.encoder.patch_width
    components = min(bench.settings.components, width)
    bundle = bench.fitted(bundle, layers=(ablations.PATCHES,), times=(0.0,), components=components)
    return lambda path: label_file(bundle, path)


def clusters_by_prior(bench: Bench) -> Segment:
    return _labelled_by(bench.clusters, bench.bundle)


def random_clusters(bench: Bench) -> Segment:
    bundle = ablations.random_denoiser(bench.bundle)
    return _labelled_by(bench.clustered(bundle), bundle)


def _labelled_by(readout: Any, bundle: ModelBundle) -> Segment:
    bundle = replace(bundle, readout=readout)
    return lambda path: label_file(bundle, path)


def clusters_by_oracle(bench: Bench) -> Segment:
    masks = dict(bench.pairs.matched)
    clusters = bench.clusters

    def segment(path: Path) -> Prediction:
        radiograph = Radiograph.read(path.resolve())
        observation = observe(bench.bundle, radiograph)
        grid = radiograph.source.grid
        reference = ablations.cells_of(grid.picture(read_labels(masks[path])[0]))[0]
        on_view = torch.cat([observation.view.square.to_model(part.numpy()) for part in reference], dim=1)
        cells = functional.adaptive_avg_pool2d(on_view, observation.features.shape[-2:])[0]
        readout: Any = ablations.named_by_oracle(clusters, observation.features[:, 0], cells)
        return prediction_of(lungs_of(replace(bench.bundle, readout=readout), observation))

    return segment


def threshold(bench: Bench) -> Segment:
    def segment(path: Path) -> Prediction:
        radiograph = Radiograph.read(path.resolve())
        return Prediction(radiograph.source.grid.stored_plane(threshold_lungs(radiograph.pixels)))

    return segment


def one_example(bench: Bench) -> Segment:
    return _taught(bench, 1)


def five_examples(bench: Bench) -> Segment:
    return _taught(bench, 5)


def _taught(bench: Bench, examples: int) -> Segment:
    """The images take turns between up to CHOICES embeddings, each learnt from masks of other images."""
    scored = set(bench.measured)
    others = [row for number, row in enumerate(bench.rows) if number not in scored]
    if not (choices := min(CHOICES, len(others) // examples)):
        raise EvaluationError(
            f"{len(others)} images beside the scored ones are too few to teach {examples}; lower --limit."
        )
    drawn = np.random.default_rng(0).permutation(len(others))[: choices * examples]
    embeddings = []
    for group in tqdm(drawn.reshape(choices, examples), "learning"):
        pairs = [_example(bench, others[i]) for i in group]
        embeddings.append(learn(bench.bundle, pairs, "lungs", labels=(RIGHT_LUNG, LEFT_LUNG)))
    turn = {bench.file(bench.rows[i], "image"): n % choices for n, i in enumerate(bench.measured)}
    return lambda path: label_file_with(bench.bundle, [embeddings[turn[path]]], path)


def _example(bench: Bench, row: dict[str, str]) -> Example:
    radiograph = Radiograph.read(bench.file(row, "image"))
    return radiograph, radiograph.source.grid.picture(read_labels(bench.file(row, "mask"))[0])


def supervised(bench: Bench) -> Segment:
    """Each image is labelled by the network of the fold that never saw its patient."""
    fold = folds_of([row.get("patient_id") or row["image"] for row in bench.rows], bench.folds)
    pictures, masks = _training_pairs(bench)
    nets = []
    with tqdm(total=bench.folds * bench.unet.steps, desc="U-Net, all folds") as bar:
        for number in range(bench.folds):
            others = torch.from_numpy(np.flatnonzero(fold != number))
            nets.append(train_unet(pictures[others], masks[others], bench.unet, bar.update))
    net_of = {bench.file(bench.rows[i], "image"): nets[fold[i]] for i in bench.measured}

    def segment(path: Path) -> Prediction:
        radiograph = Radiograph.read(path.resolve())
        labels = unet_lungs(net_of[path], radiograph, bench.unet.size)
        return Prediction(radiograph.source.grid.stored_plane(labels))

    return segment


def _training_pairs(bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    """Every row's picture `(N, 1, S, S)` and mask `(N, 3, S, S)`, on the bundle's device."""
    pictures, masks = [], []
    for row in tqdm(bench.rows, "masks to learn from"):
        radiograph = Radiograph.read(bench.file(row, "image"))
        view = radiograph.model_view(bench.unet.size)
        labels = radiograph.source.grid.picture(read_labels(bench.file(row, "mask"))[0])
        lungs = [view.square.to_model(part.numpy()) for part in ablations.cells_of(labels)[0, 1:]]
        mask = torch.cat(lungs, dim=1)
        pictures.append(view.pixels)
        masks.append(torch.cat([1 - mask.sum(1, keepdim=True), mask], dim=1))
    device = bench.bundle.device
    return torch.cat(pictures).to(device), torch.cat(masks).to(device)


@dataclass(frozen=True)
class Row:
    """A line of the table. `seen`: which masks it has learnt from or looked at. `make` may take minutes."""

    name: str
    seen: str
    make: Callable[[Bench], Segment]


ROWS = {
    "ours": Row("**ours, label-free**", "none", ours),
    "refitted": Row("ours, read-out fitted in this run", "none", refitted),
    "random": Row("the same with a random-weight denoiser", "none", random_denoiser),
    "patches": Row("the same with DINO patches alone, as the denoiser gets them", "none", patches),
    "fine-patches": Row(f"the same with {FINE_PATCHES} x {FINE_PATCHES} DINO patches", "none", fine_patches),
    "clusters": Row("clusters of denoiser features, prior naming", "none", clusters_by_prior),
    "random-clusters": Row(
        "clusters of a random-weight denoiser's features, prior naming", "none", random_clusters
    ),
    "oracle": Row(
        "clusters of denoiser features, oracle naming", "the scored image's own", clusters_by_oracle
    ),
    "merged-attention": Row(
        "self-attention of one picture merged (DiffSeg), prior naming", "none", merged_by_attention
    ),
    "normalised-cut": Row(
        "normalised cut of one picture's features (DiffCut), prior naming", "none", normalised_cut
    ),
    "attention-walk": Row(
        "random walk on one picture's self-attention from the prior's cores", "none", attention_walk
    ),
    "tokens": Row("tokens optimised on pseudo-labels, read from cross-attention", "none", tokens),
    "threshold": Row("intensity threshold (Otsu)", "none", threshold),
    "one-example": Row("ours, one example", "one of another image", one_example),
    "five-examples": Row("ours, five examples", "five of other images", five_examples),
    "supervised": Row("supervised U-Net, cross-validated", "all of the other folds", supervised),
}


def measured(row: Row, bench: Bench) -> dict[str, Any]:
    """Scores and times of one row."""
    start = time.perf_counter()
    segment = row.make(bench)
    fit = time.perf_counter() - start
    unit = median_seconds(denoiser_pass(bench.bundle), 9)
    seconds: list[float] = []

    def timed(path: Path) -> Prediction:
        began = time.perf_counter()
        found = segment(path)
        seconds.append(time.perf_counter() - began)
        return found

    with tqdm(total=len(bench.measured), desc=row.name.strip("*")) as bar:
        scored = score_pairs(bench.pairs, timed, lambda done, total: bar.update(done - bar.n))
    report = scored.to_dict()
    kept = ("n", "dice", "hd95", "ci95", "uncertainty")
    return {
        "name": row.name,
        "seen": row.seen,
        **{name: report[name] for name in kept},
        "failed": len(report["failed"]),
        "fit_seconds": fit,
        "seconds_per_image": statistics.median(seconds),
        "denoiser_passes": statistics.median(seconds) / unit,
    }
