"""Eight-bit storage: small, close, and an ordinary bundle again once loaded."""

from pathlib import Path

import pytest
import torch

from dino_diffusion.models import ModelBundle
from dino_diffusion.models.storage import dequantise, quantise
from tests.tiny import tiny_bundle


def test_rounding_stays_within_half_a_step_of_each_row() -> None:
    weights = torch.randn(32, 256, generator=torch.Generator().manual_seed(0))
    weights[3] *= 100
    restored = dequantise(quantise({"w": weights}))["w"]
    assert ((restored - weights).abs() <= weights.abs().amax(1, keepdim=True) / 254 + 1e-6).all()


def test_small_and_whole_number_tensors_are_not_rounded_to_eight_bits() -> None:
    weights = {"bias": torch.rand(5000), "small": torch.rand(8, 8), "count": torch.tensor([2**40])}
    stored = quantise(weights)
    assert stored["bias"].dtype == stored["small"].dtype == torch.float16
    assert torch.equal(dequantise(stored)["count"], weights["count"])


def test_a_row_of_zeros_stays_zero() -> None:
    assert not dequantise(quantise({"w": torch.zeros(64, 64)}))["w"].any()


def test_single_parts_can_be_stored_at_eight_bits(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    bundle.save_pretrained(tmp_path / "bundle", eight_bits=("denoiser",))
    stored = {path.parent.name for path in (tmp_path / "bundle").rglob("int8*.safetensors")}
    assert stored == {"denoiser"}
    loaded = ModelBundle.from_pretrained(tmp_path / "bundle")
    loaded.save_pretrained(tmp_path / "again", eight_bits=("denoiser",))
    assert ModelBundle.from_pretrained(tmp_path / "again").id == loaded.id


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_a_bundle_comes_back_from_every_storage(tmp_path: Path, dtype: torch.dtype) -> None:
    bundle = tiny_bundle()
    before = {name: value.clone() for name, value in bundle.denoiser.state_dict().items()}
    bundle.save_pretrained(tmp_path / "bundle", dtype=dtype)
    loaded = ModelBundle.from_pretrained(tmp_path / "bundle")
    tolerance = {torch.float32: 0, torch.float16: 1e-3, torch.int8: 1e-2}[dtype]
    for name, part in bundle.parts().items():
        for key, value in part.state_dict().items():
            scale = float(value.abs().max()) or 1.0
            assert (loaded.parts()[name].state_dict()[key] - value).abs().max() <= tolerance * scale + 1e-7, (
                key
            )
    assert all(torch.equal(value, before[key]) for key, value in bundle.denoiser.state_dict().items())
    pixels = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loaded.encoder(pixels).cls, bundle.encoder(pixels).cls, atol=0.1)
