"""Latents and tokens of the training views, computed once and kept as safetensors shards.

Several views an image: the whole, and crops where the source has the pixels. A shard is written
atomically, so an interrupted preparation goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.training.corpus import CorpusItem
from dino_diffusion.training.views import MAX_ENLARGEMENT, Box, cut, draw_box, frame_of, square, whole

SHARD_VIEWS = 256


@dataclass(frozen=True)
class View:
    """One picture to prepare: item number and view number (0: the whole image)."""

    item: int
    number: int


@dataclass
class LatentCache:
    """All views: `latents[size]` (N, C, size/8, size/8) and `cls`, `patches` fp16; `frames[size]` (N, 6).

    `fits[size]` says which views have enough source pixels for that size.
    """

    latents: dict[int, torch.Tensor]
    frames: dict[int, torch.Tensor]
    fits: dict[int, torch.Tensor]
    cls: torch.Tensor
    patches: torch.Tensor
    items: torch.Tensor

    def __len__(self) -> int:
        return len(self.cls)


def list_views(items: list[CorpusItem], views: int, chosen: np.ndarray) -> list[View]:
    """Every chosen item's views: the whole first, crops after."""
    return [View(int(index), number) for number in range(views) for index in chosen]


@torch.no_grad()
def prepare(
    folder: Path,
    items: list[CorpusItem],
    views: list[View],
    sizes: tuple[int, ...],
    encoder: DinoEncoder,
    autoencoder: Autoencoder,
    seed: int,
    device: torch.device,
    rank: int = 0,
    processes: int = 1,
    quiet: bool = False,
) -> None:
    """Writes the shards that are missing; several processes, over a common file system, share the work.

    A crop that would need enlarging is replaced by nothing: images too small for crops have fewer views.
    Raises ConfigurationError if the folder holds latents of another origin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_origin(folder, items, views, sizes, encoder, autoencoder, seed, rank)
    shards = list(enumerate(range(0, len(views), SHARD_VIEWS)))[rank::processes]
    encoder, autoencoder = encoder.eval().to(device), autoencoder.eval().to(device)
    for number, start in tqdm(shards, desc=f"preparing {folder.name}", disable=quiet):
        path = folder / f"views-{number:05d}.safetensors"
        if path.exists():
            continue
        batches = list(_batches(items, views[start : start + SHARD_VIEWS], sizes, seed))
        columns: dict[str, list[torch.Tensor]] = {}
        for batch in batches:
            encoded = encoder(batch["picture"].to(device))
            outputs = {"cls": encoded.cls, "patches": encoded.patches, "items": batch["items"]}
            for size in sizes:
                outputs[f"latents_{size}"] = autoencoder.encode(batch[f"picture_{size}"].to(device))
                outputs[f"frames_{size}"] = batch[f"frames_{size}"]
                outputs[f"fits_{size}"] = batch[f"fits_{size}"]
            for name, value in outputs.items():
                kept = value.half() if value.is_floating_point() and "frames" not in name else value
                columns.setdefault(name, []).append(kept.cpu())
        partial = path.with_suffix(f".partial-{rank}")
        save_file(
            {n: torch.cat(v).contiguous() for n, v in columns.items()} or {"empty": torch.zeros(0)}, partial
        )
        os.replace(partial, path)


def load_cache(folder: Path, sizes: tuple[int, ...]) -> LatentCache:
    """Reads every shard into memory (about 30 kB a view at 128 and 256 px with 8 channels)."""
    shards = [load_file(path) for path in sorted(folder.glob("views-*.safetensors"))]
    shards = [shard for shard in shards if "cls" in shard]
    if not shards:
        raise ConfigurationError(f"{folder}: no prepared views; delete the folder and start the run again.")

    def column(name: str) -> torch.Tensor:
        return torch.cat([shard[name] for shard in shards])

    return LatentCache(
        {size: column(f"latents_{size}") for size in sizes},
        {size: column(f"frames_{size}") for size in sizes},
        {size: column(f"fits_{size}") for size in sizes},
        column("cls"),
        column("patches"),
        column("items"),
    )


def _batches(
    items: list[CorpusItem], views: list[View], sizes: tuple[int, ...], seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Pictures, frames and item numbers of the views that exist, eight at a time."""
    drawn: list[tuple[View, torch.Tensor, Box, int]] = []
    for view in views:
        picture = square(items[view.item].read())
        side = picture.shape[-1]
        box = whole(side)
        if view.number:
            if side * MAX_ENLARGEMENT < 1.2 * max(sizes):
                continue
            box = draw_box(np.random.default_rng((seed, view.item, view.number)), side, max(sizes))
        drawn.append((view, picture, box, side))
        if len(drawn) == 8:
            yield _collate(drawn, sizes)
            drawn = []
    if drawn:
        yield _collate(drawn, sizes)


def _collate(
    drawn: list[tuple[View, torch.Tensor, Box, int]], sizes: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    batch = {"items": torch.tensor([view.item for view, *_ in drawn])}
    for size in sizes:
        batch[f"picture_{size}"] = torch.cat([cut(picture, box, size) for _, picture, box, _ in drawn])
        batch[f"frames_{size}"] = torch.tensor([frame_of(b, side, size).numbers() for _, _, b, side in drawn])
        batch[f"fits_{size}"] = torch.tensor([b.side * MAX_ENLARGEMENT >= size for *_, b, _ in drawn])
    batch["picture"] = batch[f"picture_{max(sizes)}"]
    return batch


def _check_origin(
    folder: Path,
    items: list[CorpusItem],
    views: list[View],
    sizes: tuple[int, ...],
    encoder: DinoEncoder,
    autoencoder: Autoencoder,
    seed: int,
    rank: int,
) -> None:
    """Refuses to mix latents of different models, data or settings in one folder."""
    chosen = [[view.item, view.number] for view in views]
    digest = hashlib.sha256(json.dumps([[i.key for i in items], chosen, sizes, seed]).encode())
    # What the latents depend on; a decoder that was trained further leaves them valid.
    parts = [*encoder.state_dict().items(), *autoencoder.state_dict().items()]
    for name, value in parts:
        if not name.startswith(("decoder.", "synthesis.")):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    note = folder / "origin.json"
    origin = json.dumps({"sha256": digest.hexdigest(), "views": len(views)}) + "\n"
    if note.exists() and note.read_text() != origin:
        raise ConfigurationError(
            f"{folder}: these latents were made by other models, data or settings; "
            "delete the folder or name another run.folder."
        )
    partial = note.with_suffix(f".partial-{rank}")
    partial.write_text(origin)
    os.replace(partial, note)
