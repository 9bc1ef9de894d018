"""A structure put together by clicks on regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dino_diffusion.segmentation.regions import DEFAULT_GRANULARITY, Regions


@dataclass(frozen=True, eq=False)
class Selection:
    """What has been taken by clicks so far; a click gives the next selection and leaves this one as it is.

    A click on what is not taken takes the region under it. A click on what is taken says "this does not
    belong": the region splits, and the largest part that holds this click and none of those that took
    something is given back. A later click there takes the largest part without an unwanted click. So every
    click is honoured for good, and each one on a mistake makes the mistake smaller.

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
        """The selection after a click on a pixel of the radiograph.

        `granularity` in [0, 1] bounds what a click takes, not what it gives back. Raises ConfigurationError
        for a pixel outside the radiograph or another granularity.
        """
        leaf = self.regions.leaf_at(row, column)
        limit = self.regions.limit(granularity)
        tree, one = self.regions.tree, frozenset((leaf,))
        taking = not self.taken[leaf]
        if taking:
            against = self.unwanted - one
            wanted, unwanted = self.wanted | one, against
        else:
            against, limit = self.wanted - one, len(tree.parents)
            wanted, unwanted = against, self.unwanted | one
        blocked = {node for other in against for node in tree.lineage(other)}
        region = leaf
        for node in tree.lineage(leaf):
            if node >= limit or node in blocked:
                break
            region = node
        members = tree.members(region)
        taken = self.taken | members if taking else self.taken & ~members
        return Selection(self.regions, taken, wanted, unwanted, self)

    def undo(self) -> Selection:
        """The selection before the last click; itself where there was none."""
        return self.previous or self

    @property
    def mask(self) -> np.ndarray:
        """`(H, W)` bool on the radiograph's grid."""
        return self.regions.mask_of(self.taken)
