"""A trained run in miniature: the tiny bundle's parts in run folders, a latent cache, a list of pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dino_diffusion.models import ModelBundle
from tests.tiny import CLS_WIDTH, PATCH_WIDTH, smooth_picture, tiny_bundle

IMAGES = 36


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV list: 36 held-out pictures of two sizes and sources, 4 with masks (dev), 4 to train on."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number in range(IMAGES + 8):
        split = "holdout" if number < IMAGES else ("dev" if number < IMAGES + 4 else "train")
        side = 520 if number % 12 == 0 else 72
        name = f"picture-{number}"
        picture = (smooth_picture(number, side, side) * 255).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.png")
        row = {"id": name, "source": "drawn" if number % 2 else "painted", "split": split}
        row |= {"patient_id": f"p{number // 2}", "licence": "CC0", "image": f"{name}.png", "mask": ""}
        if split == "dev":
            labels = np.zeros((side, side), np.uint8)
            labels[:, : side // 4], labels[:, side // 2 :] = 1, 2
            Image.fromarray(labels).save(folder / f"{name}-mask.png")
            row["mask"] = f"{name}-mask.png"
        rows.append(row)
    with open(folder / "list.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "list.csv"


@pytest.fixture(scope="session")
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """`<part>/weights`, `run.json` and `log.jsonl` of each part; the denoiser's `latents`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, part in tiny_bundle().parts().items():
        if name == "prior":
            continue
        part.save_pretrained(folder / name / "weights")  # type: ignore[operator]
        settings = {
            "encoder": str(folder / "encoder" / "weights"),
            "sizes": [32, 64],
            "time_shift": 1.25,
            "run": {"folder": str(folder / name), "seed": 7},
            "data": {"path": str(pictures), "splits": ["train"]},
        }
        (folder / name / "run.json").write_text(json.dumps({"settings": settings, "git": "abc1234"}))
        lines = [{"step": 10, "seconds": 60.0}, {"step": 20, "seconds": 1800.0, "loss": 0.5}]
        (folder / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "denoiser" / "latents").mkdir()
    save_file(latent_shard(), folder / "denoiser" / "latents" / "views-00000.safetensors")
    return folder


def latent_shard(whole: int = 20, crops: int = 5) -> dict[str, torch.Tensor]:
    """Whole views whose CLS tokens lie around 1, crops whose tokens lie around 50."""
    generator = torch.Generator().manual_seed(0)
    count = whole + crops
    shard = {
        "cls": torch.randn(count, CLS_WIDTH, generator=generator) + 1,
        "patches": torch.randn(count, PATCH_WIDTH, 4, 4, generator=generator),
        "items": torch.arange(count),
    }
    shard["cls"][whole:] += 49
    for size in (32, 64):
        frames = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]]).repeat(count, 1)
        frames[whole:, 0] = 0.25
        shard |= {
            f"frames_{size}": frames,
            f"fits_{size}": torch.ones(count, dtype=torch.bool),
            f"latents_{size}": torch.zeros(count, 4, size // 8, size // 8),
        }
    return {name: v.half() if name in ("cls", "patches") else v for name, v in shard.items()}
