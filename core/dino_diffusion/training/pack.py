"""Packs a corpus into WebDataset shards, so that it can travel to a GPU machine.

    python -m dino_diffusion.training.pack --data LIST.csv --splits train holdout --size 320 --out DIR

A packed image's native size is what it has after packing: training asks no more detail of it than that.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dino_diffusion.errors import ConfigurationError, DinoDiffusionError
from dino_diffusion.training.corpus import CorpusItem, load_corpus

QUALITY = 90


def pack(items: Iterable[CorpusItem], out: Path, size: int, shard_mb: float = 30.0) -> list[Path]:
    """Writes `items` as `corpus-00000.tar` and on, each at most about `shard_mb` MB; returns their paths.

    Each image becomes `key.webp`, at most `size` pixels on its short side and never enlarged, and
    `key.json` with `id`, `source`, `split` and `side` (its longer side in pixels). A shard appears only when
    it is complete. Raises ConfigurationError where `out` has shards already.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("*.tar")):
        raise ConfigurationError(f"{out}: there are shards already; name an empty folder.")
    paths: list[Path] = []
    shard: list[tuple[str, bytes]] = []
    weight = 0
    for number, item in enumerate(items):
        picture, side = _as_webp(item, size)
        about = {"id": item.key, "source": item.source, "split": item.split, "side": side}
        about |= {"patient_id": item.patient} if item.patient else {}
        about |= {"licence": item.licence} if item.licence else {}
        files = [(f"{number:07d}.webp", picture), (f"{number:07d}.json", json.dumps(about).encode())]
        added = sum(-(-len(data) // 512) * 512 + 512 for _, data in files)
        if shard and weight + added > shard_mb * 1e6:
            paths.append(_write(out / f"corpus-{len(paths):05d}.tar", shard))
            shard, weight = [], 0
        shard += files
        weight += added
    if shard:
        paths.append(_write(out / f"corpus-{len(paths):05d}.tar", shard))
    return paths


def _as_webp(item: CorpusItem, size: int) -> tuple[bytes, int]:
    """The picture's bytes and its longer side. A WebP file that is small enough is passed on as it is."""
    if item.path.suffix.lower() == ".webp" and item.length is None:
        data = item.data()
        with Image.open(io.BytesIO(data)) as picture:
            if min(picture.size) <= size:
                return data, max(picture.size)
    pixels = item.read()
    low, high = float(pixels.min()), float(pixels.max())
    # 16-bit files rarely use their whole range; eight bits of what they use are enough to train on.
    grey = Image.fromarray(((pixels - low) / max(high - low, 1e-6) * 255).round().astype(np.uint8))
    shrink = min(1.0, size / min(grey.size))
    if shrink < 1:
        grey = grey.resize(
            (round(grey.width * shrink), round(grey.height * shrink)), Image.Resampling.LANCZOS
        )
    file = io.BytesIO()
    grey.save(file, "webp", quality=QUALITY, method=4)
    return file.getvalue(), max(grey.size)


def _write(path: Path, files: list[tuple[str, bytes]]) -> Path:
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as shard:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    os.replace(partial, path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dino_diffusion.training.pack", description=__doc__)
    parser.add_argument("--data", required=True, help="folder, .csv list or .tar shards")
    parser.add_argument("--splits", nargs="*", default=[], help="splits to pack (default: all)")
    parser.add_argument("--sources", nargs="*", default=[], help="sources to pack (default: all)")
    parser.add_argument("--size", type=int, default=320, help="most pixels on the short side")
    parser.add_argument("--out", required=True, type=Path, help="folder for the shards")
    parser.add_argument("--shard-mb", type=float, default=30.0, help="most megabytes a shard")
    options = parser.parse_args(arguments)
    try:
        items = load_corpus(options.data, options.splits, options.sources)
        shards = pack(tqdm(items, desc="packing"), options.out, options.size, options.shard_mb)
    except DinoDiffusionError as error:
        print(error, file=sys.stderr)
        return 1
    total = sum(path.stat().st_size for path in shards) / 1e6
    print(f"{len(items)} images in {len(shards)} shards, {total:.1f} MB: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
