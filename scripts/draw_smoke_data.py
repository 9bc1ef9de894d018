"""What the smoke recipes need and no machine has: drawn "radiographs" and a tiny backbone of random weights.

python scripts/draw_smoke_data.py FOLDER    writes FOLDER/pictures and FOLDER/backbone
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

PICTURES, SIDE = 24, 150


def draw(seed: int) -> Image.Image:
    """A bright body with two dark ovals and some noise; every seed is another one."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    grey = 0.75 + 0.05 * rng.standard_normal((SIDE, SIDE))
    for centre in (0.3, 0.7):
        shift = rng.uniform(-0.05, 0.05)
        grey[((rows - 0.5 - shift) / 0.35) ** 2 + ((columns - centre) / 0.14) ** 2 < 1] -= 0.5
    return Image.fromarray((grey.clip(0, 1) * 255).astype(np.uint8))


def main(folder: Path) -> None:
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for seed in range(PICTURES):
        draw(seed).save(pictures / f"{seed}.png")
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder / "backbone")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
