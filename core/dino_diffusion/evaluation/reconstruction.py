"""How much of a radiograph survives the autoencoder: PSNR and SSIM of round trips, by MONAI, and its grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from monai.metrics import PSNRMetric, SSIMMetric

from dino_diffusion.evaluation import EvaluationError
from dino_diffusion.models.autoencoder import FACTOR

HIGHEST_PSNR = 100.0
"""dB given to an exact round trip, whose PSNR is infinite and so no JSON number."""


@torch.inference_mode()
def evaluate_reconstruction(
    batches: Iterable[torch.Tensor], round_trip: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, Any]:
    """Compare images with their round trips, both clipped to [0, 1] (data range 1), in float32.

    Args:
        batches: `(B, 1, H, W)` in [0, 1], at least 11 pixels a side (the window of SSIM: Gaussian, 11 pixels,
            sigma 1.5).
        round_trip: `(B, 1, H, W)` to the same shape.

    Returns:
        `n`; `psnr` (dB), `ssim`, and `grid_ratio` of the originals (`grid_before`) and of the round trips
        (`grid`): `mean`, `sd`, `p5` over images; ready for JSON.

    Raises:
        EvaluationError: no image.
    """
    psnr = PSNRMetric(max_val=1.0, reduction="none")
    ssim = SSIMMetric(spatial_dims=2, data_range=1.0, reduction="none")
    values: dict[str, list[float]] = {"psnr": [], "ssim": [], "grid_before": [], "grid": []}
    for batch in batches:
        original = batch.float().clamp(0, 1)
        decoded = round_trip(batch).float().clamp(0, 1).to(original.device)
        values["psnr"] += torch.as_tensor(psnr(decoded, original)).flatten().clamp(max=HIGHEST_PSNR).tolist()
        values["ssim"] += torch.as_tensor(ssim(decoded, original)).flatten().tolist()
        values["grid_before"] += grid_ratio(original).tolist()
        values["grid"] += grid_ratio(decoded).tolist()
    if not values["psnr"]:
        raise EvaluationError("There is no image to reconstruct: give a folder that holds radiographs.")
    return {"n": len(values["psnr"])} | {name: _summary(found) for name, found in values.items()}


def grid_ratio(pictures: torch.Tensor, spacing: int = FACTOR) -> torch.Tensor:
    """How much of a grid `(B,)` pictures `(B, 1, H, W)` show whose blocks have `spacing` pixels a side.

    Mean difference of neighbours on two sides of a block's border over that of neighbours within a block,
    those next to a border left out: 1 where there is no grid, as in radiographs.
    """
    border, within = [], []
    for axis in (2, 3):
        steps = pictures.float().diff(dim=axis).abs().mean((1, 5 - axis))
        place = torch.arange(steps.shape[1], device=steps.device) % spacing
        border.append(steps[:, place == spacing - 1].mean(1))
        within.append(steps[:, (place > 0) & (place < spacing - 2)].mean(1))
    return (border[0] + border[1]) / (within[0] + within[1]).clamp_min(1e-8)


def _summary(values: list[float]) -> dict[str, float]:
    mean, sd, p5 = np.mean(values), np.std(values), np.percentile(values, 5)
    return {"mean": float(mean), "sd": float(sd), "p5": float(p5)}
