"""Every figure of a bundle's card, each computable on its own, because together they take hours on a CPU.

Held-out images (split `holdout`) measure the autoencoder, generation and memorisation; the masks of `dev`
measure the lungs while methods are chosen, those of `test` once a release.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.crop import cut, whole
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.evaluation import EvaluationError, evenly
from dino_diffusion.evaluation.distribution import MIN_IMAGES, evaluate_generation
from dino_diffusion.evaluation.drawn import Drawing, drawn
from dino_diffusion.evaluation.features import (
    CallableFeatures,
    EfficientNetLite0Features,
    FeatureExtractor,
    extract,
)
from dino_diffusion.evaluation.lungs import label_file, spacing_of
from dino_diffusion.evaluation.matched import matched
from dino_diffusion.evaluation.memorisation import evaluate_memorisation
from dino_diffusion.evaluation.reconstruction import evaluate_reconstruction, grid_ratio
from dino_diffusion.evaluation.segmentation import evaluate_segmentation
from dino_diffusion.generation.variants import generate
from dino_diffusion.models import EncoderOutput, ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.training.assemble import whole_views
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.provenance import corpus_of, settings_of
from dino_diffusion.training.views import square
from dino_diffusion.view import ModelView

Figures = dict[str, Any]
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(what, how many) to a context that gives the function to advance by so many."""

BATCH = 16
FAILURE = 0.7
"""Mean Dice of the two lungs below which a labelling is no help."""
NATIVE = 512
"""Pixels on the short side from which a file counts as full resolution."""
LIKENESSES = 32


@contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """No progress at all."""
    yield lambda count: None


@dataclass
class Measurement:
    """One bundle on one list of radiographs. What several figures need is made once.

    `data`: a CSV with `image`, `split`, and for the lungs `mask` (and `patient_id`, `source`), or whatever
    else `load_corpus` reads. `limit` caps the images of the autoencoder and of the lungs. `work`: a folder
    that keeps the samples as they are drawn (`drawn`), so that a run can be stopped, or shared by processes.
    """

    bundle: ModelBundle
    data: Path
    split: str = "dev"
    holdout: str = "holdout"
    limit: int | None = None
    samples: int = 200
    latents: Path | None = None
    seed: int = 0
    progress: Progress = field(default=silent, repr=False)
    work: Path | None = None
    _kept: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def held_out(self) -> list[CorpusItem]:
        """Images that no part was trained on."""
        return load_corpus(self.data, [self.holdout])

    @cached_property
    def real(self) -> torch.Tensor:
        """Held-out pictures, twice as many as samples: one half against the other is the floor."""
        chosen = [self.held_out[i] for i in evenly(len(self.held_out), 2 * self.samples)]
        with self.progress("Reading held-out images", len(chosen)) as advance:
            return torch.cat(list(self._views(chosen, advance)))

    @cached_property
    def synthetic(self) -> torch.Tensor:
        """New radiographs from the bundle's prior, at the settings a user gets without asking."""
        with self.progress("Generating", self.samples) as advance:
            return drawn(self.bundle, self.samples, Drawing(self.seed), self.work, advance)

    @cached_property
    def nets(self) -> tuple[list[FeatureExtractor], list[str]]:
        """The bundle's encoder, a net that never saw a radiograph, and what is missing of them."""
        return feature_nets(self.bundle)

    def _views(
        self, items: list[CorpusItem], advance: Callable[[int], None], size: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Whole images as squares `(B, 1, size, size)`, of the model's size if None."""
        for start in range(0, len(items), BATCH):
            part = [square(item.read()) for item in items[start : start + BATCH]]
            yield torch.cat([cut(view, whole(view.shape[-1]), size or self.bundle.size) for view in part])
            advance(len(part))

    def features(self, net: FeatureExtractor, pictures: torch.Tensor) -> np.ndarray:
        """`(N, D)` of model views `(N, 1, S, S)`."""
        with self.progress(f"Features of {net.name}", len(pictures)) as advance:
            return extract(net, _advancing(pictures.split(BATCH), advance))

    def kept_features(self, net: FeatureExtractor, which: str) -> np.ndarray:
        """Of the `real` or the `synthetic` pictures; worked out once."""
        if (net.name, which) not in self._kept:
            self._kept[net.name, which] = self.features(net, getattr(self, which))
        return self._kept[net.name, which]

    def autoencoder(self) -> Figures:
        """PSNR, SSIM and grid of round trips, full-resolution files and the others apart.

        At the model's size, full-resolution files also at their own (`native_512_at_512`).
        """
        items = [self.held_out[i] for i in evenly(len(self.held_out), self.limit or len(self.held_out))]
        large = [min(item.read().shape) >= NATIVE for item in items]
        full, rest = (
            [i for i, is_large in zip(items, large, strict=True) if is_large == wanted]
            for wanted in (True, False)
        )
        groups = {
            f"native_{NATIVE}": (full, self.bundle.size),
            "smaller": (rest, self.bundle.size),
            f"native_{NATIVE}_at_{NATIVE}": (full, NATIVE),
        }

        def round_trip(batch: torch.Tensor) -> torch.Tensor:
            there = self.bundle.autoencoder.encode(batch.to(self.bundle.device))
            return self.bundle.autoencoder.decode(there)

        found: Figures = {"size": self.bundle.size}
        with self.progress("Round trips", len(items) + len(full)) as advance:
            for name, (group, size) in groups.items():
                views = self._views(group, advance, size)
                found[name] = evaluate_reconstruction(views, round_trip) if group else None
        return found

    def segmentation(self) -> Figures:
        """Dice of the lungs on the split's masks, as `{split: figures}`, without the images' names."""
        rows = [row for row in list_rows(self.data) if row.get("split") == self.split and row.get("mask")]
        if not rows:
            raise EvaluationError(
                f"{self.data.name}: no image of split '{self.split}' has a mask; name another split, or a "
                "CSV with a column 'mask'."
            )
        rows = [rows[i] for i in evenly(len(rows), self.limit or len(rows))]
        with tempfile.TemporaryDirectory() as temporary:
            folders = {name: Path(temporary) / name for name in ("image", "mask")}
            for name, folder in folders.items():
                folder.mkdir()
                for number, row in enumerate(rows):
                    file = self.data.parent / row[name]
                    (folder / f"{number}{file.suffix}").symlink_to(file.resolve())
            with self.progress("Labelling and measuring", len(rows)) as advance:
                report = evaluate_segmentation(
                    folders["image"],
                    folders["mask"],
                    lambda path: label_file(self.bundle, path),
                    lambda done, total: advance(1),
                    spacing_of,
                )
        summary = report.to_dict()
        means = [score.mean for score in report.scores.values()]
        kept = {name: summary[name] for name in ("n", "dice", "hd95", "hd95_mm")}
        below = sum(mean < FAILURE for mean in means) / len(means)
        return {self.split: kept | {f"share_below_{FAILURE}": below, "unreadable": len(report.failed)}}

    def generation(self) -> Figures:
        """FID, KID, precision and recall of new radiographs through each net, beside the floor."""
        if self.samples < MIN_IMAGES:
            raise EvaluationError(f"{self.samples} samples are too few; take at least {MIN_IMAGES}.")
        nets, missing = self.nets
        measured = [self._distances(net, self.kept_features(net, "synthetic")) for net in nets]
        grid = {name: float(grid_ratio(getattr(self, name)).mean()) for name in ("real", "synthetic")}
        return {"nets": measured, "missing_nets": missing, "grid": grid, "settings": self._sampling()}

    def matched(self) -> Figures:
        """The same of radiographs drawn with the tokens of training images, matched by source."""
        if self.latents is None:
            raise EvaluationError("Matching by source needs the training tokens; name the run's latents.")
        tokens, items = whole_views(self.latents)
        sources = _sources(self.latents, items)
        if sources is None:
            raise EvaluationError("Matching by source needs the list of training images, which is not here.")
        device = self.bundle.device
        tokens = EncoderOutput(tokens.cls.to(device), tokens.patches.to(device))
        choice = matched(tokens, sources, [item.source for item in self.held_out])
        drawing = Drawing(self.seed, conditions="matched by source")
        with self.progress("Generating, matched by source", self.samples) as advance:
            pictures = drawn(self.bundle, self.samples, drawing, self.work, advance, choice)
        measured = [self._distances(net, self.features(net, pictures)) for net in self.nets[0]]
        return {"nets": measured, "settings": self._sampling()}

    def _distances(self, net: FeatureExtractor, synthetic: np.ndarray) -> Figures:
        return evaluate_generation(self.kept_features(net, "real"), synthetic, net.name)

    def likeness(self) -> Figures:
        """Are variants of an image nearer to it than to other patients? Cosines of features, each net."""
        items = [self.held_out[i] for i in evenly(len(self.held_out), LIKENESSES)]
        sources, variants = [], []
        with self.progress("Variants of held-out images", len(items)) as advance:
            for number, item in enumerate(items):
                like = Radiograph.read(item.path)
                made = generate(self.bundle, 1, like, self.seed + number)[0]
                sources.append(like.model_view(self.bundle.size).pixels)
                variants.append(ModelView.of(made.pixels, self.bundle.size).pixels)
                advance(1)
        patients = {row.get("id") or row["image"]: row.get("patient_id") for row in list_rows(self.data)}
        names = [patients.get(item.key) or item.key for item in items]
        strangers = torch.tensor([[a != b for b in names] for a in names])
        return {
            "n": len(items),
            "nets": [
                {"net": net.name}
                | _likeness(
                    self.features(net, torch.cat(variants)),
                    self.features(net, torch.cat(sources)),
                    strangers,
                )
                for net in self.nets[0]
            ],
            "settings": self._sampling(),
        }

    def memorisation(self) -> Figures:
        """Do samples come nearer to training images than held-out images do? CLS tokens, cosine."""
        if self.latents is None:
            raise EvaluationError("Memorisation needs the training tokens; name the run's latents.")
        encoder = self.nets[0][0]
        held_out, synthetic = (self.kept_features(encoder, which) for which in ("real", "synthetic"))
        tokens, items = whole_views(self.latents)
        found = evaluate_memorisation(
            synthetic,
            held_out,
            tokens.cls.double().numpy(),
            percentile=max(1.0, 100 / len(held_out)),
            sources=_sources(self.latents, items),
        )
        return found | {"net": encoder.name, "suspects": len(found["suspects"])}

    def _sampling(self) -> Figures:
        drawing = Drawing(self.seed)
        return {
            "seed": self.seed,
            "steps": drawing.steps,
            "guidance": drawing.guidance,
            "sampler": drawing.sampler,
        }


SECTIONS: dict[str, Callable[[Measurement], Figures]] = {
    "autoencoder": Measurement.autoencoder,
    "segmentation": Measurement.segmentation,
    "generation": Measurement.generation,
    "matched": Measurement.matched,
    "likeness": Measurement.likeness,
    "memorisation": Measurement.memorisation,
}


def measure_bundle(
    measurement: Measurement,
    only: list[str] | None = None,
    figures: Figures | None = None,
    save: Callable[[Figures], None] = lambda figures: None,
    strict: bool = False,
) -> Figures:
    """Measures the sections `only` (default all) into `figures`, if those are of the same bundle.

    `save` is called after each section. A section that the data do not allow is said under `skipped`, or,
    where `strict`, refused with an EvaluationError.
    """
    chosen = list(SECTIONS) if only is None else only
    if unknown := [name for name in chosen if name not in SECTIONS]:
        raise EvaluationError(f"There is no figure '{unknown[0]}'; take some of {', '.join(SECTIONS)}.")
    identity = measurement.bundle.id
    found: Figures = dict(figures) if figures and figures.get("bundle") == identity else {}
    found |= {"bundle": identity, "data": measurement.data.name, "holdout": measurement.holdout}
    for name in chosen:
        began = time.monotonic()
        skipped = {n: why for n, why in found.get("skipped", {}).items() if n != name}
        try:
            section = SECTIONS[name](measurement)
        except EvaluationError as error:
            if strict:
                raise
            skipped[name] = str(error)
            section = None
        found["skipped"] = skipped
        if section is not None:
            found[name] = (found.get(name, {}) | section) if name == "segmentation" else section
            found["seconds"] = found.get("seconds", {}) | {name: round(time.monotonic() - began, 1)}
        save(found)
    return found


def missing_sections(figures: Figures, identity: str, split: str) -> list[str]:
    """Sections that `figures` of the bundle `identity` does not hold yet."""
    if figures.get("bundle") != identity:
        return list(SECTIONS)
    there = set(figures) | set(figures.get("skipped", {}))
    if split not in figures.get("segmentation", {split: None}):
        there.remove("segmentation")
    return [name for name in SECTIONS if name not in there]


def feature_nets(bundle: ModelBundle) -> tuple[list[FeatureExtractor], list[str]]:
    """The bundle's encoder and, where its packages are installed, a net that never saw a radiograph."""

    def cls_token(batch: torch.Tensor) -> torch.Tensor:
        return bundle.encoder(batch.to(bundle.device)).cls

    nets: list[FeatureExtractor] = [CallableFeatures("encoder-cls", cls_token)]
    try:
        return [*nets, EfficientNetLite0Features(bundle.device)], []
    except EvaluationError as error:
        return nets, [" ".join(str(error).split())]


def list_rows(data: Path) -> list[dict[str, str]]:
    """Rows of a CSV list; none for other kinds of data, which have no masks and patients."""
    if data.suffix != ".csv" or not data.is_file():
        return []
    with open(data, newline="") as file:
        return list(csv.DictReader(file))


def _sources(latents: Path, items: torch.Tensor) -> list[str] | None:
    """Of the training images `items` (N,) of a denoiser's run; None where its list is not here."""
    try:
        corpus = corpus_of(settings_of(latents).get("data", {}))
        return [corpus[item].source for item in items.tolist()]
    except (ConfigurationError, OSError, IndexError):
        return None


def _likeness(variants: np.ndarray, sources: np.ndarray, strangers: torch.Tensor) -> Figures:
    """`own`, `others`: mean cosine of a variant to its source and to other patients; `nearest`: share of
    variants to which no other patient is nearer than the own source."""
    cosines = (
        functional.normalize(torch.from_numpy(variants)) @ functional.normalize(torch.from_numpy(sources)).mT
    )
    own = cosines.diagonal()
    best_other = cosines.masked_fill(~strangers, -1).amax(1)
    return {
        "own": float(own.mean()),
        "own_p5": float(own.quantile(0.05)),
        "others": float(cosines[strangers].mean()) if strangers.any() else None,
        "nearest": float((own > best_other).double().mean()),
    }


def _advancing(batches: tuple[torch.Tensor, ...], advance: Callable[[int], None]) -> Iterator[torch.Tensor]:
    for batch in batches:
        yield batch
        advance(len(batch))
