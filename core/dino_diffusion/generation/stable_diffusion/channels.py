"""Pictures of three channels for Stable Diffusion: a grey one thrice, or three MRI sequences of one slice."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.image_list import list_images
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.view import GreyScale, SquareView

Channels = str | Path | Radiograph | Sequence[str | Path | Radiograph]
"""One grey picture, or three of one slice, such as T2-weighted, ADC and high-b (de Wilde et al. 2023)."""


SEQUENCES = ("t2w", "adc", "highb")
"""Columns of a list of MRI slices, in the order of the channels."""


def read_channels(picture: Channels) -> tuple[np.ndarray, tuple[str, ...]]:
    """`(3, H, W)` float32 in [0, 1], each channel with its own robust grey range, and the files' SHA-256.

    Raises RadiographError for what cannot be read, and for channels that are not three or do not lie on the
    same grid.
    """
    single = isinstance(picture, (str, Path, Radiograph))
    parts = [picture] if isinstance(picture, (str, Path, Radiograph)) else list(picture)
    opened = [part if isinstance(part, Radiograph) else Radiograph.read(part) for part in parts]
    if not single and len(opened) != 3:
        raise RadiographError(
            f"{len(opened)} sequences make no picture of three channels; give T2W, ADC and high-b, in order."
        )
    first = opened[0]
    for other in opened[1:]:
        if other.shape != first.shape:
            raise RadiographError(
                f"{other.source.name}: has {other.shape[1]} x {other.shape[0]} pixels, {first.source.name} "
                f"{first.shape[1]} x {first.shape[0]}; resample them onto one grid first."
            )
    grey = [GreyScale.of(channel.pixels).apply(channel.pixels) for channel in opened]
    return np.stack(grey * 3 if single else grey), tuple(o.source.sha256 for o in opened)


def square(picture: np.ndarray, size: int) -> torch.Tensor:
    """`(3, H, W)` padded to a square of `size`: `(1, 3, size, size)`."""
    view = SquareView(picture.shape[1], picture.shape[2], size)
    return torch.cat([view.to_model(channel) for channel in picture], dim=1)


def list_pictures(paths: Sequence[Path]) -> list[Channels]:
    """Images of files, folders and lists (`image_list`); triples of a list with columns t2w, adc and highb.

    Raises ConfigurationError for a list that is none.
    """
    found: list[Channels] = []
    for path in paths:
        triples = _triples(path) if path.suffix.lower() == ".csv" else []
        found += triples or list_images([path]).files
    return found


def _triples(path: Path) -> list[Channels]:
    """The rows of a list of MRI sequences, beside the list; none where it is another list."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []  # `list_images` says what is wrong with it
    if not rows or not set(SEQUENCES) <= set(rows[0]):
        return []
    return [[path.parent / row[name] for name in SEQUENCES] for row in rows]
