"""The bundle's encoder beside the teacher that its blocks come from, on questions that need no training.

    python benchmarks/encoder.py METADATA.csv --work DIR [--teacher FOLDER] [--bundle B] [--write FILE]

METADATA.csv lists images with `image`, `split`, `patient_id`, `finding` and `mask`. Two crops of 500 held-out
images find each other; linear probes on the images of one split with masks tell normal from tuberculosis,
lung from the rest, cell by cell, and a picture from its mirror image, each by five folds of patients. Ours:
whitened tokens, as the denoiser gets them. The teacher's: the raw tokens of its first blocks, centred.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from documents import write_between
from safetensors.torch import load_file, save_file
from torch.nn import functional

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.crop import cut, whole
from dino_diffusion.evaluation import evenly
from dino_diffusion.evaluation.labelfiles import read_labels
from dino_diffusion.evaluation.probe import auc
from dino_diffusion.evaluation.release import list_rows
from dino_diffusion.evaluation.ridge import cross_validated_ridge
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.models import DinoEncoder, ModelBundle
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.views import draw_box, square

SCRIPT = "benchmarks/encoder.py"
TEACHER = Path("../shared/weights/dinov2-small-saliency")
BATCH = 8
GRID = 4
"""Cells a side of the pooled patches: as many as the denoiser is conditioned on."""
RESAMPLES = 1000

Statistic = Callable[[np.ndarray], float]
"""A figure of the images with these numbers."""


@dataclass(frozen=True)
class Tokens:
    """`cls` (N, width), `patches` (N, rows, columns, width)."""

    cls: torch.Tensor
    patches: torch.Tensor

    @property
    def mean_patch(self) -> torch.Tensor:
        """`(N, width)`."""
        return self.patches.mean(dim=(1, 2))

    @property
    def pooled(self) -> torch.Tensor:
        """`(N, GRID * GRID * width)`."""
        return functional.adaptive_avg_pool2d(self.patches.permute(0, 3, 1, 2), GRID).flatten(1)


@dataclass(frozen=True)
class Bounded:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Bounded:
        """The first is that of all images, the others of resamples of them."""
        return cls(float(values[0]), *map(float, np.percentile(values[1:], [2.5, 97.5])))

    def said(self, form: str = ".3f") -> str:
        """For a table."""
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"


@dataclass(frozen=True)
class Row:
    """One question: both figures and ours less the teacher's, with 95 % intervals over images."""

    what: str
    ours: Bounded
    theirs: Bounded
    more: Bounded
    n: int

    @classmethod
    def of(cls, what: str, n: int, ours: Statistic, theirs: Statistic) -> Row:
        """The same images are drawn again for both (paired bootstrap)."""
        rng = np.random.default_rng(0)
        drawn = [np.arange(n), *(rng.integers(n, size=n) for _ in range(RESAMPLES))]
        values = np.array([(ours(part), theirs(part)) for part in drawn])
        return cls(what, *map(Bounded.of, (values[:, 0], values[:, 1], values[:, 0] - values[:, 1])), n)


def main() -> None:
    """Measures and prints."""
    options = parse()
    hush_libraries()
    bundle = ModelBundle.from_pretrained(options.bundle)
    layers = bundle.encoder.backbone.config.num_hidden_layers
    teacher = DinoEncoder.from_backbone(options.teacher, layers, bundle.encoder.image_size).eval()
    pictures = Pictures(options.data, options.split, options.limit, bundle.encoder.image_size)
    raw = {name: encoded(bundle.encoder, pictures, name, options.work) for name in pictures.kinds}
    ours = {name: whitened(bundle.encoder, tokens) for name, tokens in raw.items()}
    theirs = {name: encoded(teacher, pictures, name, options.work) for name in pictures.kinds}
    rows = [*found_again(ours, theirs), *probed(ours, theirs, pictures)]
    made = table(bundle, options.teacher.name, layers, rows)
    print(made)
    if options.write:
        write_between(options.write, SCRIPT, made)


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="METADATA.csv", help="images with split and mask")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="tokens are kept there")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument(
        "--teacher", type=Path, default=TEACHER, metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument("--split", default="dev", help="of the images with masks (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="held-out images (default: 500)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    return parser.parse_args()


class Pictures:
    """What is encoded: two crops of held-out images, and the images of a split as they are and mirrored."""

    kinds = ("first crop", "second crop", "whole", "mirrored")

    def __init__(self, data: Path, split: str, limit: int, size: int) -> None:
        self.data, self.size = data, size
        held_out = load_corpus(data, ["holdout"])
        self.held_out = [held_out[place] for place in evenly(len(held_out), limit)]
        self.rows = [row for row in list_rows(data) if row["split"] == split and row["mask"]]
        if not self.rows:
            raise SystemExit(f"{data}: no image of split '{split}' has a mask; name another split.")

    def of(self, kind: str) -> Iterable[torch.Tensor]:
        """One by one, `(1, 1, size, size)` in [0, 1]."""
        if kind.endswith("crop"):
            return (self._crop(place, kind) for place in range(len(self.held_out)))
        return (self._whole(row, kind == "mirrored") for row in self.rows)

    def lungs(self, cells: int) -> np.ndarray:
        """`(N, cells, cells)`: whether most of a cell is lung."""
        masks = []
        for row in self.rows:
            labels, _ = read_labels(self.data.parent / row["mask"])
            mask = torch.from_numpy(labels > 0).float()[None, None]
            height, width = labels.shape
            side = max(height, width)
            left, top = (side - width) // 2, (side - height) // 2
            padded = functional.pad(mask, (left, side - width - left, top, side - height - top))
            masks.append(functional.adaptive_avg_pool2d(padded, cells)[0, 0].numpy() > 0.5)
        return np.stack(masks)

    def _crop(self, place: int, kind: str) -> torch.Tensor:
        picture = square(self.held_out[place].read())
        rng = np.random.default_rng((self.kinds.index(kind), place))
        return cut(picture, draw_box(rng, picture.shape[-1], self.size), self.size)

    def _whole(self, row: dict[str, str], mirrored: bool) -> torch.Tensor:
        picture = square(CorpusItem(row["image"], "", self.data.parent / row["image"]).read())
        view = cut(picture, whole(picture.shape[-1]), self.size)
        return view.flip(-1) if mirrored else view


@torch.inference_mode()
def encoded(encoder: DinoEncoder, pictures: Pictures, kind: str, work: Path) -> Tokens:
    """The backbone's own tokens, kept by what its weights are: equal blocks are run once."""
    digest = hashlib.sha256(f"{encoder.image_size} {pictures.data.name} {kind}".encode())
    for name, value in sorted(encoder.backbone_state().items()):
        digest.update(name.encode() + value.half().numpy().tobytes())
    for row in pictures.rows if not kind.endswith("crop") else ():
        digest.update(row["image"].encode())
    for item in pictures.held_out if kind.endswith("crop") else ():
        digest.update(item.key.encode())
    kept = work / f"tokens-{digest.hexdigest()[:16]}.safetensors"
    if not kept.is_file():
        parts: list[tuple[torch.Tensor, torch.Tensor]] = []
        waiting: list[torch.Tensor] = []
        for picture in pictures.of(kind):
            waiting.append(picture)
            if len(waiting) == BATCH:
                parts.append(encoder.raw_tokens(torch.cat(waiting)))
                waiting = []
        if waiting:
            parts.append(encoder.raw_tokens(torch.cat(waiting)))
        found = {
            "cls": torch.cat([cls for cls, _ in parts]),
            "patches": torch.cat([p for _, p in parts]).half(),
        }
        with atomic_path(kept) as temporary:
            save_file(found, temporary)
    found = load_file(kept)
    return Tokens(found["cls"], found["patches"].float())


@torch.inference_mode()
def whitened(encoder: DinoEncoder, raw: Tokens) -> Tokens:
    """As the denoiser gets them."""
    return Tokens(encoder.cls_whitening(raw.cls), encoder.patch_whitening(raw.patches))


def found_again(ours: dict[str, Tokens], theirs: dict[str, Tokens]) -> list[Row]:
    """How often one crop finds the other among those of all images, by the cosine of centred vectors."""

    def hits(tokens: dict[str, Tokens], take: Callable[[Tokens], torch.Tensor]) -> Statistic:
        vectors = [take(tokens[kind]) for kind in ("first crop", "second crop")]
        first, second = (functional.normalize(v - v.mean(0), dim=1) for v in vectors)
        right = ((first @ second.T).argmax(1) == torch.arange(len(first))).double().numpy()
        return lambda images: float(right[images].mean())

    n = len(ours["first crop"].cls)
    takes = {"CLS": lambda tokens: tokens.cls, "mean patch": lambda tokens: tokens.mean_patch}
    return [
        Row.of(f"crop finds crop, top 1, {name}", n, hits(ours, take), hits(theirs, take))
        for name, take in takes.items()
    ]


def probed(ours: dict[str, Tokens], theirs: dict[str, Tokens], pictures: Pictures) -> list[Row]:
    """The linear probes."""
    patients = [row["patient_id"] or row["image"] for row in pictures.rows]
    sick = np.array([row["finding"] != "normal" for row in pictures.rows])
    cells = ours["whole"].patches.shape[1]
    lungs, n = pictures.lungs(cells), len(pictures.rows)

    def disease(take: Callable[[Tokens], torch.Tensor], tokens: dict[str, Tokens]) -> Statistic:
        scores = cross_validated_ridge(take(tokens["whole"]).double().numpy(), sick, patients)
        return lambda images: auc(sick[images], scores[images])

    def sides(take: Callable[[Tokens], torch.Tensor], tokens: dict[str, Tokens]) -> Statistic:
        both = torch.cat([take(tokens["whole"]), take(tokens["mirrored"])]).double().numpy()
        mirrored = np.repeat([False, True], n)
        right = (cross_validated_ridge(both, mirrored, patients * 2) > 0) == mirrored
        share = right.reshape(2, n).mean(0)
        return lambda images: float(share[images].mean())

    def lung(tokens: dict[str, Tokens]) -> Statistic:
        flat = tokens["whole"].patches.flatten(0, 2).numpy()
        owners = np.repeat(patients, cells * cells)
        found = (cross_validated_ridge(flat, lungs.ravel(), owners) > 0).reshape(lungs.shape)
        overlap = 2 * (found & lungs).sum((1, 2)) / (found.sum((1, 2)) + lungs.sum((1, 2))).clip(min=1)
        return lambda images: float(overlap[images].mean())

    takes = {"CLS": lambda tokens: tokens.cls, "mean patch": lambda tokens: tokens.mean_patch}
    rows = [
        Row.of(f"normal or tuberculosis, AUC, {name}", n, disease(take, ours), disease(take, theirs))
        for name, take in takes.items()
    ]
    rows.append(Row.of(f"lung, {cells} x {cells} patches, Dice", n, lung(ours), lung(theirs)))
    takes = {"CLS": lambda tokens: tokens.cls, f"{GRID} x {GRID} patches": lambda tokens: tokens.pooled}
    return rows + [
        Row.of(f"mirrored or not, right, {name}", n, sides(take, ours), sides(take, theirs))
        for name, take in takes.items()
    ]


def table(bundle: ModelBundle, teacher: str, layers: int, rows: list[Row]) -> str:
    """Markdown."""
    encoder = bundle.encoder
    lines = [
        f"Bundle `{bundle.id}`: its encoder ({encoder.cls_width} and {encoder.patch_width} whitened numbers "
        f"for CLS and a patch) beside the raw tokens of `{teacher}`, first {layers} blocks "
        f"({encoder.backbone.config.hidden_size} numbers), both at {encoder.image_size} px; "
        "95 % intervals over images.",
        "",
        "| question | ours | teacher | ours more | images |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row.what, row.ours.said(), row.theirs.said(), row.more.said("+.3f"), str(row.n))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
