"""A structure put together by clicks on regions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from dino_diffusion.segmentation.regions import DEFAULT_GRANULARITY, Regions


@dataclass(frozen=True, eq=False)
class Selection:
    """What has been taken by clicks so far; a click gives the next selection and leaves this one as it is.

    A click on what is not taken takes the region under it. A click on what is taken says "this does not
    belong": the region splits, and the part under the click is given back. Neither goes against an earlier
    click: what is given back holds no pixel that was clicked to be taken, what is taken none that was clicked
    to be given back; the region is split as far as that needs. So every click changes its own pixel, and none
    changes that of another.

    taken: `(leaves,)` bool. wanted, unwanted: the leaves of the clicks that hold.
    """

    regions: Regions
    taken: np.ndarray
    wanted: frozenset[int] = frozenset()
    unwanted: frozenset[int] = frozenset()
    previous: Selection | None = None

    @classmethod
    def empty(cls, regions: Regions) -> Selection:
        """Nothing taken yet."""
        return cls(regions, np.zeros(regions.tree.leaves, dtype=bool))

    def click(self, row: int, column: int, granularity: float = DEFAULT_GRANULARITY) -> Selection:
        """The selection after a click on a pixel of the radiograph; `granularity` bounds what it changes.

        Raises ConfigurationError for a pixel outside the radiograph or a granularity outside [0, 1].
        """
        leaf = self.regions.leaf_at(row, column)
        members = self.regions.tree.members(self._node(leaf, granularity))
        here, others = frozenset((leaf,)), (self.wanted - {leaf}, self.unwanted - {leaf})
        if self.taken[leaf]:
            return Selection(self.regions, self.taken & ~members, others[0], others[1] | here, self)
        return Selection(self.regions, self.taken | members, others[0] | here, others[1], self)

    def preview(self, row: int, column: int, granularity: float = DEFAULT_GRANULARITY) -> np.ndarray:
        """`(H, W)` bool: what a click would take or give back, to show under the pointer."""
        leaf = self.regions.leaf_at(row, column)
        node = self._node(leaf, granularity)
        return self.regions.mask_of(self.regions.tree.members(node) & (self.taken == self.taken[leaf]))

    def _node(self, leaf: int, granularity: float) -> int:
        """The largest region of `granularity` or finer that no click for the contrary lies in."""
        tree, limit = self.regions.tree, self.regions.limit(granularity)
        contrary = (self.wanted if self.taken[leaf] else self.unwanted) - {leaf}
        blocked = {node for other in contrary for node in tree.lineage(other)}
        *_, largest = itertools.takewhile(
            lambda node: node < limit and node not in blocked, tree.lineage(leaf)
        )
        return largest

    def undo(self) -> Selection:
        """The selection before the last click; itself where there was none."""
        return self.previous or self

    @property
    def mask(self) -> np.ndarray:
        """`(H, W)` bool on the radiograph's grid."""
        return self.regions.mask_of(self.taken)
