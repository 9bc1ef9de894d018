"""What is known of a picture without a label, region by region: background, and the zones of both lungs."""

from __future__ import annotations

import torch

from dino_diffusion.segmentation.chest_frame import chest_coordinates
from dino_diffusion.segmentation.zones import ZONES

REGIONS = 1 + 2 * ZONES
"""Background; upper, middle and lower zone of the right lung; of the left lung."""

STRAY = 0.005
"""Share of a lung's cells that may lie above its highest row or below its lowest without moving it."""


def known_regions(known: torch.Tensor) -> torch.Tensor:
    """Probabilities `(B, REGIONS, f, f)` from those of background, right and left lung `(B, 3, f, f)`.

    Thirds of each lung's height, as in `zones.lung_zones`, but along the chest: in a turned picture the
    zones are turned, too.
    """
    down = chest_coordinates(known[:, 1:])[:, 1]
    found = [known[:, :1]]
    for lung in known[:, 1:].unbind(1):
        third = torch.stack([_thirds(*each) for each in zip(lung, down, strict=True)])
        found += [(lung * (third == number))[:, None] for number in range(ZONES)]
    return torch.cat(found, dim=1)


def _thirds(lung: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Which third of the lung's height each cell `(f, f)` lies in, 0 above all others."""
    inside = down[lung > 0.5]
    if not len(inside):
        return torch.zeros_like(down)
    top, bottom = torch.quantile(inside, inside.new_tensor([STRAY, 1 - STRAY]))
    return ((down - top) / (bottom - top).clamp_min(1e-6) * ZONES).floor().clamp(0, ZONES - 1)
