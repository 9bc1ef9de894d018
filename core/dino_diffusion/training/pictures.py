"""Progress pictures of a run. Pillow only, so that they work on a bare GPU machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def save_grid(pixels: torch.Tensor, path: Path, columns: int) -> None:
    """`(B, 1, H, W)` in [0, 1] as one PNG, row by row."""
    count, _, height, width = pixels.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * height, columns * width), dtype=np.uint8)
    grey = (pixels[:, 0].clamp(0, 1).float().cpu().numpy() * 255).round().astype(np.uint8)
    for index, picture in enumerate(grey):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
