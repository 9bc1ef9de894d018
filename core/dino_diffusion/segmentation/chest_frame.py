"""The chest's own coordinates on a picture: they move, turn and grow with the lungs found without a label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from dino_diffusion.segmentation.naming import LEFT_LUNG_PRIOR, RIGHT_LUNG_PRIOR

PRIOR_CELLS = 0.01
"""Weight of the prior's place for a lung, as a share of the picture: it decides only where none is found."""


@dataclass(frozen=True)
class ChestFrame:
    """Of B pictures, each a square whose sides go from -1 to 1.

    centre (B, 2): x and y between the lungs' centres. across (B, 2): unit vector from the right lung toward
    the left one. units (B, 2): how long 1 is across the body (half the way between the lungs' centres) and
    down it (twice the lungs' standard deviation).
    """

    centre: torch.Tensor
    across: torch.Tensor
    units: torch.Tensor

    @classmethod
    def of(cls, lungs: torch.Tensor) -> ChestFrame:
        """From probabilities `(B, 2, h, h)` of right and left lung."""
        side = lungs.shape[-1]
        x, y = cell_centres(side).to(lungs).unbind(-1)
        weight = lungs.square()
        mass, prior = weight.sum((2, 3)), PRIOR_CELLS * side * side
        ellipses = (RIGHT_LUNG_PRIOR, LEFT_LUNG_PRIOR)
        prior_x, prior_y = (
            lungs.new_tensor(v) * 2 - 1 for v in zip(*((e.x, e.y) for e in ellipses), strict=True)
        )
        lung_x = ((weight * x).sum((2, 3)) + prior * prior_x) / (mass + prior)
        lung_y = ((weight * y).sum((2, 3)) + prior * prior_y) / (mass + prior)
        way = torch.stack([lung_x[:, 1] - lung_x[:, 0], lung_y[:, 1] - lung_y[:, 0]], dim=1)
        centre = torch.stack([lung_x.mean(1), lung_y.mean(1)], dim=1)
        half = way.norm(dim=1).clamp_min(0.2) / 2
        frame = cls(centre, functional.normalize(way, dim=1), torch.stack([half, half], dim=1))
        down = frame.places(torch.stack([x, y], dim=-1))[:, 1] * half[:, None, None]
        both = weight.sum(1)
        variance = (both * down.square()).sum((1, 2)) + 2 * prior * RIGHT_LUNG_PRIOR.half_height**2
        spread = (variance / (both.sum((1, 2)) + 2 * prior)).sqrt().clamp_min(0.1)
        return cls(centre, frame.across, torch.stack([half, 2 * spread], dim=1))

    @property
    def area(self) -> torch.Tensor:
        """`(B,)`: one unit of the chest's area as a share of the picture."""
        return self.units.prod(1) / 4

    def __getitem__(self, number: int) -> ChestFrame:
        """That of one picture, still a batch."""
        one = slice(number, number + 1)
        return ChestFrame(self.centre[one], self.across[one], self.units[one])

    def places(self, points: torch.Tensor) -> torch.Tensor:
        """Points of the pictures `(..., h, w, 2)`, x and y, to places in the chest `(B, 2, h, w)`."""
        x, y = (points - self.centre[:, None, None]).unbind(-1)
        cos, sin = self.across[:, :, None, None].unbind(1)
        moved = torch.stack([x * cos + y * sin, y * cos - x * sin], dim=1)
        return moved / self.units[:, :, None, None]

    def points(self, places: torch.Tensor) -> torch.Tensor:
        """Places in the chest `(B, 2)` to points of the pictures `(B, 2)`; the inverse of `places`."""
        along, down = (places * self.units).unbind(1)
        cos, sin = self.across.unbind(1)
        return self.centre + torch.stack([along * cos - down * sin, along * sin + down * cos], dim=1)


def chest_coordinates(lungs: torch.Tensor) -> torch.Tensor:
    """Places `(B, 2, h, h)` of the cells of maps `(B, 2, h, h)`: in the frame of the lungs that they show.

    The first coordinate is -1 at the right lung's centre and 1 at the left one's, along the line through
    them; the second is across it, in units of twice the lungs' standard deviation, down the body.
    """
    return ChestFrame.of(lungs).places(cell_centres(lungs.shape[-1]).to(lungs))


def cell_centres(side: int) -> torch.Tensor:
    """`(side, side, 2)`: x and y of the cells of a grid over a picture from -1 to 1."""
    centres = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1)
