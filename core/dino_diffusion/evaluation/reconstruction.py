"""How much of a radiograph survives the autoencoder: PSNR and SSIM of round trips, by MONAI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from monai.metrics import PSNRMetric, SSIMMetric

from dino_diffusion.evaluation import EvaluationError

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
        `n`; `psnr` (dB) and `ssim`: `mean`, `sd`, `p5` over images; ready for JSON.

    Raises:
        EvaluationError: no image.
    """
    psnr = PSNRMetric(max_val=1.0, reduction="none")
    ssim = SSIMMetric(spatial_dims=2, data_range=1.0, reduction="none")
    values: dict[str, list[float]] = {"psnr": [], "ssim": []}
    for batch in batches:
        original = batch.float().clamp(0, 1)
        decoded = round_trip(batch).float().clamp(0, 1).to(original.device)
        values["psnr"] += torch.as_tensor(psnr(decoded, original)).flatten().clamp(max=HIGHEST_PSNR).tolist()
        values["ssim"] += torch.as_tensor(ssim(decoded, original)).flatten().tolist()
    if not values["psnr"]:
        raise EvaluationError("There is no image to reconstruct: give a folder that holds radiographs.")
    return {"n": len(values["psnr"])} | {name: _summary(found) for name, found in values.items()}


def _summary(values: list[float]) -> dict[str, float]:
    mean, sd, p5 = np.mean(values), np.std(values), np.percentile(values, 5)
    return {"mean": float(mean), "sd": float(sd), "p5": float(p5)}
