"""Latents and tokens of the training views, computed once and kept as safetensors shards.

Several views an image: the whole, and crops where the source has the pixels. A shard is written
atomically, so an interrupted preparation goes on where it stopped.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dino_diffusion.crop import cut, frame_of, whole
from dino_diffusion.errors import ConfigurationError
from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.training.batches import Batch
from dino_diffusion.training.views import MAX_ENLARGEMENT, draw_box, square

SHARD_VIEWS = 256
CPU_BATCH, GPU_BATCH = 8, 64


class Item(Protocol):
    """An image to prepare."""

    @property
    def key(self) -> str:
        """Names it: latents of other images are refused."""

    def read(self) -> np.ndarray:
        """Grey pixels `(H, W)` float32 in [0, 1]."""


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

    @property
    def bytes(self) -> int:
        """Of what `to` moves."""
        return sum(column.nbytes for column in (*self.latents.values(), self.cls, self.patches))

    def to(self, device: torch.device) -> LatentCache:
        """The same with latents and tokens on `device`: batches are gathered where they are needed."""
        return replace(
            self,
            latents={size: latents.to(device) for size, latents in self.latents.items()},
            cls=self.cls.to(device),
            patches=self.patches.to(device),
        )


def list_views(items: Sequence[Item], views: int, chosen: np.ndarray) -> list[View]:
    """Every chosen item's views: the whole first, crops after."""
    return [View(int(index), number) for number in range(views) for index in chosen]


@torch.no_grad()
def prepare(
    folder: Path,
    items: Sequence[Item],
    views: list[View],
    sizes: tuple[int, ...],
    encoder: DinoEncoder,
    autoencoder: Autoencoder,
    seed: int,
    device: torch.device,
    rank: int = 0,
    processes: int = 1,
    quiet: bool = False,
    workers: int = 1,
) -> None:
    """Writes the shards that are missing; several processes, over a common file system, share the work.

    A crop that would need enlarging is replaced by nothing: images too small for crops have fewer views.
    Raises ConfigurationError if the folder holds latents of another origin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_origin(folder, items, views, sizes, encoder, autoencoder, seed, rank)
    encoder, autoencoder = encoder.eval().to(device), autoencoder.eval().to(device)
    shards = list(enumerate(range(0, len(views), SHARD_VIEWS)))[rank::processes]
    paths = {start: folder / f"views-{number:05d}.safetensors" for number, start in shards}
    missing = [start for start, path in paths.items() if not path.exists()]
    make = functools.partial(_draw, items, sizes, seed)
    drawn = _drawn(make, [views[start : start + SHARD_VIEWS] for start in missing], workers)
    bar = tqdm(missing, desc=f"preparing {folder.name}", unit="shard", disable=quiet)
    for start, pictures in zip(bar, drawn, strict=True):
        columns = _encode(pictures, sizes, encoder, autoencoder, device)
        partial = paths[start].with_suffix(f".partial-{rank}")
        save_file(columns or {"empty": torch.zeros(0)}, partial)
        os.replace(partial, paths[start])


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


def _drawn(
    make: Callable[[View], Batch | None], shards: list[list[View]], workers: int
) -> Iterator[list[Batch]]:
    """The pictures of each shard's views that exist; the next shard is drawn in the background."""
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="latents") as pool:
        ahead = [pool.submit(make, view) for view in shards[0]] if shards else []
        for number in range(len(shards)):
            current = ahead
            ahead = (
                [pool.submit(make, view) for view in shards[number + 1]] if number + 1 < len(shards) else []
            )
            yield [batch for future in current if (batch := future.result()) is not None]


def _draw(items: Sequence[Item], sizes: tuple[int, ...], seed: int, view: View) -> Batch | None:
    """One view at every size with its frame and item number; None if the image is too small for it."""
    picture = square(items[view.item].read())
    side = picture.shape[-1]
    box = whole(side)
    if view.number:
        if side * MAX_ENLARGEMENT < 1.2 * max(sizes):
            return None
        box = draw_box(np.random.default_rng((seed, view.item, view.number)), side, max(sizes))
    drawn = {"items": torch.tensor(view.item)}
    for size in sizes:
        drawn[f"picture_{size}"] = cut(picture, box, size)[0]
        drawn[f"frames_{size}"] = torch.tensor(frame_of(box, side, size).numbers())
        drawn[f"fits_{size}"] = torch.tensor(box.side * MAX_ENLARGEMENT >= size)
    return drawn


def _encode(
    drawn: list[Batch],
    sizes: tuple[int, ...],
    encoder: DinoEncoder,
    autoencoder: Autoencoder,
    device: torch.device,
) -> Batch:
    """The columns of a shard: tokens and latents in half precision beside frames, fits and items."""
    columns: dict[str, list[torch.Tensor]] = {}
    together = GPU_BATCH if device.type == "cuda" else CPU_BATCH
    for start in range(0, len(drawn), together):
        part = drawn[start : start + together]
        batch = {name: torch.stack([view[name] for view in part]) for name in part[0]}
        encoded = encoder(batch[f"picture_{max(sizes)}"].to(device))
        outputs = {"cls": encoded.cls.half(), "patches": encoded.patches.half(), "items": batch["items"]}
        for size in sizes:
            outputs[f"latents_{size}"] = autoencoder.encode(batch[f"picture_{size}"].to(device)).half()
            outputs[f"frames_{size}"] = batch[f"frames_{size}"]
            outputs[f"fits_{size}"] = batch[f"fits_{size}"]
        for name, value in outputs.items():
            columns.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(parts).contiguous() for name, parts in columns.items()}


def _check_origin(
    folder: Path,
    items: Sequence[Item],
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
