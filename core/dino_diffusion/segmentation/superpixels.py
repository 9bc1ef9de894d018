"""Small pieces whose borders follow the picture's: the finest regions, and how they reach the pixel grid."""

from __future__ import annotations

import numpy as np
from skimage.filters import sobel
from skimage.segmentation import watershed

COMPACTNESS = 1e-3
"""Low: borders follow edges; high: pieces become squares. Chosen on dev masks."""

GREY_TOLERANCE = 0.1
"""Difference of grey, of 1, at which a pixel begins to prefer a farther neighbour of its own grey."""


def superpixels(picture: np.ndarray, step: int) -> np.ndarray:
    """Pieces of about `step` x `step` pixels of a picture `(h, w)` in [0, 1]: `(h, w)` from 0, in rows.

    Compact watershed of the gradient, from a marker in the middle of each cell of a regular grid (Neubert and
    Protzel 2014): every piece is connected and lies near its cell.
    """
    rows, columns = (_middles(length, step) for length in picture.shape)
    markers = np.zeros(picture.shape, dtype=np.int32)
    markers[np.ix_(rows, columns)] = np.arange(1, len(rows) * len(columns) + 1).reshape(len(rows), -1)
    return watershed(sobel(picture), markers, compactness=COMPACTNESS) - 1


def enlarge(pieces: np.ndarray, picture: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """Carry `pieces` `(h, w)` of `picture` `(h, w)` to the grid of `guide` `(H, W)`, the same scene.

    Joint bilateral upsampling (Kopf et al. 2007) of the pieces' memberships over the four nearest pixels:
    each pixel goes to the piece with the largest weight, near and alike in grey.
    """
    (top, bottom, down), (left, right, across) = (
        _between(length, fine) for length, fine in zip(pieces.shape, guide.shape, strict=True)
    )
    corners = [(row, column) for row in (top, bottom) for column in (left, right)]
    around = [pieces[np.ix_(row, column)] for row, column in corners]
    result = around[0]
    mixed = np.nonzero(np.any([result != other for other in around[1:]], axis=0))
    if not len(mixed[0]):
        return result
    candidates = np.stack([labels[mixed] for labels in around])
    down, across = down[mixed[0]], across[mixed[1]]
    near = np.stack(
        [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], dtype=np.float32
    )
    grey = np.stack([picture[row[mixed[0]], column[mixed[1]]] for row, column in corners])
    weights = near * np.exp(-((grey - guide[mixed]) ** 2) / (2 * GREY_TOLERANCE**2))
    votes = [(weights * (candidates == candidate)).sum(0) for candidate in candidates]
    result[mixed] = np.take_along_axis(candidates, np.argmax(votes, axis=0)[None], axis=0)[0]
    return result


def neighbours(pieces: np.ndarray) -> np.ndarray:
    """`(edges, 2)`: each pair of pieces that share a border, the lower number first, sorted."""
    pairs = np.concatenate(
        [
            np.stack([one.ravel(), other.ravel()])
            for one, other in ((pieces[:, :-1], pieces[:, 1:]), (pieces[:-1], pieces[1:]))
        ],
        axis=1,
    ).astype(np.int64)
    pairs = np.sort(pairs[:, pairs[0] != pairs[1]], axis=0)
    count = int(pieces.max()) + 1
    return np.stack(np.divmod(np.unique(pairs[0] * count + pairs[1]), count), axis=1)


def _middles(length: int, step: int) -> np.ndarray:
    """Middles of cells of about `step` along `length`, at least one."""
    cells = max(1, round(length / step))
    return ((np.arange(cells) + 0.5) * length / cells).astype(int)


def _between(length: int, fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `fine` positions along `length` cells: the cells before and after, and how far between."""
    position = np.clip((np.arange(fine) + 0.5) * length / fine - 0.5, 0, length - 1)
    before = position.astype(int)
    return before, np.minimum(before + 1, length - 1), position - before
