"""What the check against training images finds and misses: false alarms, altered copies, generated pictures.

    python benchmarks/nearest.py METADATA.csv [--limit N] [--copies N] [--variants N] [--write FILE]

METADATA.csv lists images with `image`, `split` (train, holdout, dev), `source` and `patient_id`. The bundle
must carry an index of its training images. Printed is the share of pictures that the check would warn of.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from documents import write_between
from scipy import ndimage

SCRIPT = "benchmarks/nearest.py"

ALTERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the training image itself": lambda picture: picture,
    "noise, standard deviation 3 %": lambda picture: np.clip(
        picture + np.random.default_rng(0).normal(0, 0.03, picture.shape), 0, 1
    ),
    "gamma 0.7": lambda picture: picture**0.7,
    "blurred by 0.4 % of the side": lambda picture: ndimage.gaussian_filter(picture, 0.004 * len(picture)),
    "turned by 4 degrees": lambda picture: ndimage.rotate(picture, 4, reshape=False, order=1, mode="nearest"),
    "shifted by 3 % and 2 %": lambda picture: ndimage.shift(
        picture, (0.03 * picture.shape[0], -0.02 * picture.shape[1]), order=1, mode="nearest"
    ),
    "cropped to 90 %": lambda picture: picture[_middle(picture.shape[0]), _middle(picture.shape[1])],
    "mirrored": lambda picture: picture[:, ::-1],
}


def main() -> None:
    """Measures and prints."""
    options = parse()
    from dino_diffusion.models import ModelBundle

    bundle = ModelBundle.from_pretrained(options.bundle)
    if bundle.training_index is None:
        raise SystemExit("This bundle carries no index of its training images: assemble one that does.")
    with options.data.open(newline="", encoding="utf-8") as file:
        rows = [row | {"path": options.data.parent / row["image"]} for row in csv.DictReader(file)]
    indexed = len(bundle.training_index.codes)
    measured = itertools.chain(
        copies(bundle, rows, options.copies),
        same_patients(bundle, rows, options.copies),
        generated(bundle, rows, options.variants) if options.variants else (),
        false_alarms(bundle, rows, options.limit),
    )
    if options.json:
        print(json.dumps({"bundle": bundle.id, "indexed": indexed, "shares": list(measured)}, indent=1))
        return
    lines = [
        f"Bundle `{bundle.id}`, {indexed} training images in the index.",
        "",
        "| picture | warned of | n |",
        "|---|---|---|",
    ]
    for entry in measured:
        lines.append(f"| {entry['what']} | {entry['share']:.1%} | {entry['n']} |")
        print(lines[-1], flush=True)
    if options.write:
        write_between(options.write, SCRIPT, "\n".join(lines))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="METADATA.csv", help="images with split and source")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="images of a split and source")
    parser.add_argument("--copies", type=int, default=48, metavar="N", help="training images to alter")
    parser.add_argument("--variants", type=int, default=0, metavar="N", help="also generate N of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file to put the table into")
    return parser.parse_args()


def false_alarms(bundle: Any, rows: list[dict[str, Any]], limit: int) -> Iterator[dict[str, Any]]:
    """Images that were never trained on, by split and source."""
    for split in ("holdout", "dev"):
        for source in sorted({row["source"] for row in rows if row["split"] == split}):
            chosen = [row for row in rows if (row["split"], row["source"]) == (split, source)]
            pictures = (_read(row["path"]) for row in _some(chosen, limit))
            yield _share(bundle, f"never trained on: {source} ({split})", pictures)


def copies(bundle: Any, rows: list[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """Training images of known patients, altered, and what the autoencoder makes of them."""
    import torch

    from dino_diffusion.device import inference
    from dino_diffusion.view import ModelView

    known = [row for row in rows if row["split"] == "train" and row["patient_id"]]
    pictures = [_read(row["path"]) for row in _some(known, count)]
    pictures = [picture for picture in pictures if _own(bundle, picture) is not None]
    for name, alter in ALTERATIONS.items():
        yield _share(bundle, name, map(alter, pictures))
    with inference(bundle.device), torch.no_grad():
        views = [ModelView.of(picture, bundle.size).pixels.to(bundle.device) for picture in pictures]
        restored = [bundle.autoencoder.decode(bundle.autoencoder.encode(view)) for view in views]
    yield _share(bundle, "round trip through the autoencoder", (r[0, 0].cpu().numpy() for r in restored))


def same_patients(bundle: Any, rows: list[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """Training images of patients with several, against the index without the image itself."""
    from dino_diffusion.generation.nearest import SUSPICIOUS, index_embedding
    from dino_diffusion.models.training_index import TrainingIndex

    known = [row for row in rows if row["split"] == "train" and row["patient_id"]]
    images = Counter(row["patient_id"] for row in known)
    warned = []
    for row in _some([row for row in known if images[row["patient_id"]] > 1], count):
        picture = _read(row["path"])
        if (own := _own(bundle, picture)) is None:
            continue
        others = TrainingIndex(
            np.delete(bundle.training_index.codes, own, 0), bundle.training_index.reference
        )
        _, relative, _ = others.nearest(index_embedding(bundle, picture))
        warned.append(others.closer_than(float(relative[0])) >= SUSPICIOUS)
    yield {"what": "another image of the same patient", "share": float(np.mean(warned)), "n": len(warned)}


def generated(bundle: Any, rows: list[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """New pictures, and variants of training images and of others."""
    from dino_diffusion.generation.variants import Variation, generate
    from dino_diffusion.radiograph import Radiograph

    yield _share(bundle, "generated: new", (item.pixels for item in generate(bundle, count)))
    for split in ("train", "holdout"):
        chosen = [row for row in rows if row["split"] == split and row["patient_id"]]
        likes = [Radiograph.read(row["path"]) for row in _some(chosen, count)]
        for strength in (1.0, 0.3):
            variations = [Variation(like, strength=strength) for like in likes]
            pictures = [generate(bundle, 1, like, seed)[0].pixels for seed, like in enumerate(variations)]
            yield _share(bundle, f"generated: like {split} images, strength {strength}", pictures)


def _share(bundle: Any, what: str, pictures: Iterable[np.ndarray]) -> dict[str, Any]:
    from dino_diffusion.generation.nearest import nearest_training_image

    checks = [
        nearest_training_image(bundle, np.ascontiguousarray(picture, dtype=np.float32))
        for picture in pictures
    ]
    warned = [check is not None and check.suspicious for check in checks]
    return {"what": what, "share": float(np.mean(warned)), "n": len(warned)}


def _own(bundle: Any, picture: np.ndarray) -> int | None:
    """Place of a training image in the index; None where the run took only a part of its list."""
    from dino_diffusion.generation.nearest import index_embedding

    distance, _, place = bundle.training_index.nearest(index_embedding(bundle, picture))
    return int(place[0]) if distance[0] < 0.01 else None


def _read(path: Path) -> np.ndarray:
    from dino_diffusion.radiograph import Radiograph

    return Radiograph.read(path).pixels


def _some(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return rows[:: max(1, len(rows) // count)][:count]


def _middle(length: int) -> slice:
    return slice(round(0.05 * length), round(0.95 * length))


if __name__ == "__main__":
    main()
