"""A folder with a few drawn pictures and a tiny backbone: all that the smoke recipes need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)


def draw_picture(path: Path, height: int = 96, width: int = 90, seed: int = 0) -> Path:
    """A bright body with two dark ovals and some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    grey = 0.75 + 0.05 * rng.standard_normal((height, width))
    for centre in (0.3, 0.7):
        shift = rng.uniform(-0.05, 0.05)
        grey[((rows - 0.5 - shift) / 0.35) ** 2 + ((columns - centre) / 0.14) ** 2 < 1] -= 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((grey.clip(0, 1) * 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of 130 to 139 px."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        draw_picture(folder / f"{number}.png", 130 + number, 120, number)
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Dinov2 of three blocks."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    folder = tmp_path_factory.mktemp("backbone")
    Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, pictures: Path, backbone: Path) -> dict[str, Any]:
    """The smoke pipeline run once: a bundle-shaped folder and each part's figures."""
    from dino_diffusion.training.run import train_part

    folder = tmp_path_factory.mktemp("smoke")
    common = {"data.path": str(pictures)}
    figures = {}
    for part, more in {
        "encoder": {"backbone": str(backbone)},
        "autoencoder": {},
        "denoiser": {
            "encoder": str(folder / "encoder" / "weights"),
            "autoencoder": str(folder / "autoencoder" / "weights"),
        },
        "readout": {
            "encoder": str(folder / "encoder" / "weights"),
            "autoencoder": str(folder / "autoencoder" / "weights"),
            "denoiser": str(folder / "denoiser" / "weights"),
        },
    }.items():
        overrides = {**common, **more, "run.folder": str(folder / part)}
        figures[part] = train_part(part, f"smoke/{part}", overrides=overrides, quiet=True)
    bundle = folder / "bundle"
    bundle.mkdir()
    for part in figures:
        (bundle / part).symlink_to(folder / part / "weights")
    (bundle / "model_index.json").write_text("{}")
    return {"folder": folder, "bundle": bundle, "figures": figures, "pictures": pictures}
