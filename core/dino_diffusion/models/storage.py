"""Weights at eight bits: half the size of fp16, for bundles that travel inside a package.

Every matrix and convolution kernel keeps one float scale an output row, its values rounded to
[-127, 127] (symmetric absolute-maximum quantisation); vectors, small tensors and those of a single row
(position embeddings) stay fp16. Loading gives
ordinary floating-point weights back, so nothing computes in eight bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file, save_file
from torch import nn

from dino_diffusion.errors import BundleError

Part = TypeVar("Part", bound=nn.Module)

MAX_SHARD = "14MB"
SCALE_ENDING = ".int8_scale"
SMALLEST = 4096
"""Tensors of fewer numbers are not worth their loss of precision."""


def quantise(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Large floating-point tensors as int8 and a float32 scale `(rows,)` beside each; the rest as fp16."""
    stored: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        if not value.is_floating_point():
            stored[name] = value.clone()
        elif value.ndim < 2 or value.shape[0] == 1 or value.numel() < SMALLEST:
            stored[name] = value.half()
        else:
            rows = value.float().flatten(1)
            scale = rows.abs().amax(1).clamp_min(1e-12) / 127
            stored[name] = (rows / scale[:, None]).round().to(torch.int8).view_as(value)
            stored[name + SCALE_ENDING] = scale
    return stored


def dequantise(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The float32 weights that `quantise` stored."""
    weights: dict[str, torch.Tensor] = {}
    for name, value in stored.items():
        if name.endswith(SCALE_ENDING):
            continue
        scale = stored.get(name + SCALE_ENDING)
        if scale is None:
            weights[name] = value.float() if value.is_floating_point() else value
        else:
            weights[name] = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
    return weights


def save_int8(part: nn.Module, folder: Path) -> None:
    """The part's configuration and its quantised weights in shards."""
    part.save_config(folder)  # type: ignore[operator]
    stored = quantise({name: value.detach().cpu() for name, value in part.state_dict().items()})
    split = split_torch_state_dict_into_shards(
        stored, filename_pattern="int8{suffix}.safetensors", max_shard_size=MAX_SHARD
    )
    for file, names in split.filename_to_tensors.items():
        save_file({name: stored[name].contiguous() for name in names}, folder / file)


def load_part(kind: type[Part], folder: Path) -> Part:
    """A part of class `kind` in float32, whichever way it was stored. Raises BundleError."""
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: this part is not there; copy the bundle again, or train the part first."
        )
    if not any(folder.glob("*.safetensors")):
        # The libraries would fall back on a pickle, which may hold any program.
        raise BundleError(f"{folder}: there are no safetensors weights in it; copy or train the part again.")
    loader: Any = kind
    try:
        quantised = sorted(folder.glob("int8*.safetensors"))
        part: Any = (
            loader.from_config(loader.load_config(folder)) if quantised else loader.from_pretrained(folder)
        )
        if quantised:
            stored: dict[str, torch.Tensor] = {}
            for file in quantised:
                stored |= load_file(file)
            part.load_state_dict(dequantise(stored))
    except Exception as error:
        # Libraries raise anything here, from JSON to safetensors errors; the user needs one sentence.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(
            f"{folder}: this part cannot be read ({reason}); copy or train it again."
        ) from error
    loaded: Part = part.float().eval()
    return loaded
