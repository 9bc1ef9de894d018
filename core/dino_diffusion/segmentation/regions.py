"""Regions on demand: one hierarchy a radiograph, from which any granularity and any pixel answers at once.

    session = regions(bundle, radiograph)
    session.labels(0.5)                      # every region at this granularity
    session.at(row, column, 0.5)             # the one under the pointer
    Selection.empty(session).click(row, column)

The picture is cut into small pieces along its own edges; neighbouring pieces that the denoiser's attention
and features, and their grey, hardly tell apart are merged one pair after another. No label enters, and no
region is named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.models import ModelBundle
from dino_diffusion.models.autoencoder import FACTOR
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.affinity import affinity, joint_attention, spectral_embedding
from dino_diffusion.segmentation.merge_tree import MergeTree, agglomerate
from dino_diffusion.segmentation.observation import Observation, observe, with_attention
from dino_diffusion.segmentation.superpixels import enlarge, neighbours, superpixels
from dino_diffusion.view import resize

FEWEST, MOST = 4, 240
"""Regions at granularity 0 and 1; between them the count grows by the same factor from step to step. As label
values from 16 on, where segments without a fixed meaning begin, 240 are what a byte holds."""

DEFAULT_GRANULARITY = 0.3
"""Where one click takes most of a lung at once, on dev masks."""

WORKING_SIDE = 1024
"""Longest side of the grid on which outlines are drawn; a larger picture's are that much coarser."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The hierarchy of one radiograph. Coarser regions unite finer ones exactly, on every grid.

    pieces: `(h, w)` leaf of the tree at each pixel, on the radiograph's grid of `shape` (H, W) or, for a
    large one, on a coarser grid over the same area.
    """

    pieces: np.ndarray
    tree: MergeTree
    shape: tuple[int, int]

    def count(self, granularity: float) -> int:
        """How many regions there are at `granularity` in [0, 1]. Raises ConfigurationError beyond."""
        if not 0 <= granularity <= 1:
            raise ConfigurationError(
                f"Granularity {granularity}: choose one between 0 (coarse) and 1 (fine)."
            )
        return min(round(FEWEST * (MOST / FEWEST) ** granularity), self.tree.leaves)

    def labels(self, granularity: float) -> np.ndarray:
        """`(H, W)` uint8 on the radiograph's grid: 1 ... `count(granularity)`, in reading order."""
        found, first, inverse = np.unique(
            self.tree.cut(self.count(granularity)), return_index=True, return_inverse=True
        )
        rank = np.empty(len(found), dtype=np.uint8)
        rank[np.argsort(first)] = np.arange(1, len(found) + 1)
        return self._on_grid(rank[inverse][self.pieces])

    def at(self, row: int, column: int, granularity: float = DEFAULT_GRANULARITY) -> np.ndarray:
        """`(H, W)` bool: the region under a pixel. Raises ConfigurationError outside the radiograph."""
        return self.mask_of(self.tree.members(self.node_at(row, column, granularity)))

    def node_at(self, row: int, column: int, granularity: float = DEFAULT_GRANULARITY) -> int:
        """The region under a pixel as its node in the tree: while it is the same, nothing needs drawing."""
        return int(self.tree.cut(self.count(granularity))[self.leaf_at(row, column)])

    def leaf_at(self, row: int, column: int) -> int:
        """The finest piece under a pixel. Raises ConfigurationError outside the radiograph."""
        height, width = self.shape
        if not (0 <= row < height and 0 <= column < width):
            raise ConfigurationError(
                f"Pixel ({row}, {column}) lies outside the radiograph: rows end at {height - 1}, "
                f"columns at {width - 1}."
            )
        rows, columns = self.pieces.shape
        return int(self.pieces[row * rows // height, column * columns // width])

    def limit(self, granularity: float) -> int:
        """Nodes of the tree below this number are no larger than the regions at `granularity`."""
        return self.tree.limit(self.count(granularity))

    def mask_of(self, leaves: np.ndarray) -> np.ndarray:
        """`(H, W)` bool on the radiograph's grid, of `(leaves,)` bool."""
        return self._on_grid(leaves[self.pieces])

    def _on_grid(self, values: np.ndarray) -> np.ndarray:
        for axis, (fine, coarse) in enumerate(zip(self.shape, values.shape, strict=True)):
            if fine != coarse:
                values = np.take(values, np.arange(fine) * coarse // fine, axis=axis)
        return values


def regions(bundle: ModelBundle, source: Radiograph | Observation, seed: int = 0) -> Regions:
    """The hierarchy of a radiograph; depends on image, bundle and `seed` alone.

    An observation of the same bundle spares the encoder's pass; one with attention spares all of them. `seed`
    is that of the observation to be made.
    """
    if isinstance(source, Radiograph):
        source = observe(bundle, source, seed, attention=True)
    return regions_of(with_attention(bundle, source))


def regions_of(observation: Observation) -> Regions:
    """`regions` of what has been observed, with attention."""
    return hierarchy(observation, embedding(observation))


def hierarchy(observation: Observation, semantics: torch.Tensor) -> Regions:
    """Pieces of the picture, merged by `semantics` (channels, S, S) and grey, which count alike."""
    inside = observation.view.square.inside
    picture = observation.view.pixels[0, 0][inside].numpy()
    cells = superpixels(picture, FACTOR)
    pieces = enlarge(cells, picture, working_grey(observation))
    # A radiograph smaller than the model's view may have no pixel for some of them.
    kept = np.bincount(pieces.ravel(), minlength=cells.max() + 1) > 0
    pieces = (np.cumsum(kept, dtype=np.uint16) - 1)[pieces]
    seen = (semantics[:, inside[0], inside[1]].numpy(), picture[None])
    values = np.concatenate([unit_variance(mean_over(cells, channels)[kept]) for channels in seen], axis=1)
    sizes = np.bincount(cells.ravel())[kept]
    tree = agglomerate(values, sizes, neighbours(pieces))
    return Regions(pieces, tree, observation.radiograph.shape)


def working_grey(observation: Observation) -> np.ndarray:
    """The radiograph in the model's grey on the grid where outlines are drawn, `(h, w)`."""
    pixels = observation.radiograph.pixels
    longest = max(pixels.shape)
    if longest > WORKING_SIDE:
        size = [max(1, round(length * WORKING_SIDE / longest)) for length in pixels.shape]
        pixels = functional.interpolate(torch.from_numpy(pixels)[None, None], size, mode="area")[0, 0].numpy()
    return observation.view.scale.apply(pixels)


def embedding(observation: Observation) -> torch.Tensor:
    """Spectral embedding of the latent's cells that show the picture, on the model's pixel grid.

    `(channels, S, S)`; the padding, which belongs to no region, repeats the nearest cells.
    """
    features = observation.features[:, 0].mean(0).cpu()
    height, width = features.shape[-2:]
    rows, columns = (
        slice(part.start // FACTOR, -(-part.stop // FACTOR)) for part in observation.view.square.inside
    )
    shown = features[:, rows, columns]
    attention = joint_attention(observation.attention, (height, width)).cpu()
    attention = attention.unflatten(1, (height, width)).unflatten(0, (height, width))
    attention = attention[rows, columns][..., rows, columns].flatten(2).flatten(0, 1)
    field = spectral_embedding(affinity(attention, shown.flatten(1).split(observation.widths))).unflatten(
        1, shown.shape[1:]
    )
    beside = (columns.start, width - columns.stop, rows.start, height - rows.stop)
    field = functional.pad(field[None], beside, mode="replicate")
    return resize(field, observation.view.square.size)[0]


def mean_over(cells: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """`(cells, channels)`: means of maps `(channels, h, w)` over each cell of `(h, w)`."""
    sums = [np.bincount(cells.ravel(), channel.ravel()) for channel in channels]
    return np.stack(sums, axis=1) / np.bincount(cells.ravel())[:, None]


def unit_variance(values: np.ndarray) -> np.ndarray:
    """`(pieces, channels)` centred and scaled as one, so that the variances of the channels add up to 1."""
    centred = values - values.mean(0)
    return centred / max(np.sqrt((centred**2).sum(1).mean()), 1e-9)
