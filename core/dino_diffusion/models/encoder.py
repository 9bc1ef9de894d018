"""Frozen DINO-family encoder: one CLS token and a grid of patch tokens for a grey radiograph.

Any transformers vision transformer that starts with a CLS token (Dinov2, Dinov2-with-registers, DINOv3,
ViT, so RAD-DINO and DINOv2-base too) can be the backbone, by folder or hub name. Tokens are centred and
PCA-whitened on a training corpus, so that every dimension the denoiser sees carries equal variance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin

from dino_diffusion.errors import BundleError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEAST_VARIANCE = 1e-6
"""Of a whitened component, as a share of the leading one's."""

TOKENS_FILE, SETTINGS_FILE = "tokens.safetensors", "encoder_settings.json"


@dataclass(frozen=True)
class EncoderOutput:
    """Tokens of a batch: `cls` (batch, width) and `patches` (batch, width, rows, columns)."""

    cls: torch.Tensor
    patches: torch.Tensor

    def pooled(self, grid: int) -> torch.Tensor:
        """Patch tokens averaged to `(batch, grid * grid, width)`, row by row."""
        return functional.adaptive_avg_pool2d(self.patches, grid).flatten(2).transpose(1, 2)


class TokenWhitening(nn.Module):
    """`y = (x - mean) @ components / scale`: the leading principal components at unit variance.

    A direction that hardly varies at all (a LayerNorm leaves one) stays silent: dividing by nothing would
    only amplify rounding.
    """

    mean: torch.Tensor
    components: torch.Tensor
    scale: torch.Tensor

    def __init__(self, width: int, kept: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.eye(width, kept))
        self.register_buffer("scale", torch.ones(kept))

    def fit(self, tokens: torch.Tensor) -> None:
        """Learns mean, components and standard deviations from `tokens` (n, width), n > width."""
        kept = self.scale.numel()
        centred = tokens.double() - tokens.double().mean(0)
        variances, components = torch.linalg.eigh(centred.T @ centred / (len(tokens) - 1))
        self.mean.copy_(tokens.double().mean(0))
        self.components.copy_(components.flip(1)[:, :kept])
        least = variances[-1].clamp_min(1e-8) * LEAST_VARIANCE
        self.scale.copy_(variances.flip(0)[:kept].clamp_min(least).sqrt())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return (tokens - self.mean) @ self.components / self.scale


class DinoEncoder(nn.Module):
    """Backbone plus whitening. Input `(batch, 1, H, W)` in [0, 1]; resized to `image_size` first."""

    def __init__(
        self,
        backbone: PreTrainedModel,
        image_size: int,
        cls_width: int | None = None,
        patch_width: int | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.patch_size: int = backbone.config.patch_size
        if image_size % self.patch_size:
            raise BundleError(
                f"Encoder image size {image_size} is no multiple of its patch size {self.patch_size}; "
                f"use {image_size // self.patch_size * self.patch_size}."
            )
        self.image_size = image_size
        self.mean, self.std = tuple(mean), tuple(std)
        width = backbone.config.hidden_size
        self.cls_whitening = TokenWhitening(width, min(cls_width or width, width))
        self.patch_whitening = TokenWhitening(width, min(patch_width or width, width))

    @property
    def cls_width(self) -> int:
        """Width of the whitened CLS token."""
        return self.cls_whitening.scale.numel()

    @property
    def patch_width(self) -> int:
        """Width of each whitened patch token."""
        return self.patch_whitening.scale.numel()

    def raw_tokens(
        self, pixels: torch.Tensor, image_size: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Backbone tokens before whitening: CLS `(batch, width)`, patches `(batch, rows, columns, width)`."""
        size = image_size or self.image_size
        if pixels.shape[-2:] != (size, size):
            pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        mean, std = (pixels.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        pixels = (pixels.expand(-1, 3, -1, -1) - mean) / std
        # Plain ViT refuses sizes other than its own unless told; the DINO families interpolate by themselves.
        options = {"interpolate_pos_encoding": True} if self.backbone.config.model_type == "vit" else {}
        hidden = self.backbone(pixel_values=pixels, **options).last_hidden_state
        rows = size // self.patch_size
        return hidden[:, 0], hidden[:, -rows * rows :].unflatten(1, (rows, rows))

    def forward(self, pixels: torch.Tensor, image_size: int | None = None) -> EncoderOutput:
        cls, patches = self.raw_tokens(pixels, image_size)
        return EncoderOutput(self.cls_whitening(cls), self.patch_whitening(patches).permute(0, 3, 1, 2))

    @classmethod
    def from_backbone(
        cls,
        name_or_folder: str | Path,
        layers: int | None = None,
        image_size: int = 224,
        cls_width: int | None = None,
        patch_width: int | None = None,
    ) -> DinoEncoder:
        """Any transformers vision transformer by folder or hub name, its first `layers` blocks if given.

        A truncated backbone gets an identity-affine final LayerNorm: the trained one belongs to the
        blocks that were cut. Whitening starts as plain truncation; `TokenWhitening.fit` sets it.
        """
        try:
            config = AutoConfig.from_pretrained(name_or_folder)
            truncated = layers is not None and layers < config.num_hidden_layers
            if truncated:
                # The stage names of a backbone config count the blocks; it works them out anew.
                stages = ("stage_names", "out_features", "out_indices")
                kept = {name: value for name, value in config.to_dict().items() if name not in stages}
                config = type(config).from_dict(kept | {"num_hidden_layers": layers})
            backbone = AutoModel.from_pretrained(
                name_or_folder, config=config, dtype=torch.float32, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise BundleError(
                f"Encoder '{name_or_folder}' cannot be loaded ({error}); name a folder or hub name of a "
                "transformers Dinov2, DINOv3 or ViT model."
            ) from error
        if truncated:
            norm = next(m for n in ("layernorm", "norm") if (m := getattr(backbone, n, None)) is not None)
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
        mean, std = _grey_statistics(name_or_folder)
        return cls(backbone, image_size, cls_width, patch_width, mean, std)

    @classmethod
    def load_config(cls, folder: str | Path) -> dict[str, Any]:
        """What `save_config` wrote: the backbone's configuration and this encoder's settings."""
        settings = json.loads((Path(folder) / SETTINGS_FILE).read_text())
        return {"backbone": AutoConfig.from_pretrained(folder), **settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DinoEncoder:
        """An encoder of that configuration, its weights not yet set."""
        return cls(
            AutoModel.from_config(config["backbone"]), **{n: v for n, v in config.items() if n != "backbone"}
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DinoEncoder:
        """Reads what `save_pretrained` wrote."""
        backbone = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        encoder = cls(**cls.load_config(folder) | {"backbone": backbone})
        tokens = {name: value.float() for name, value in load_file(Path(folder) / TOKENS_FILE).items()}
        encoder.load_state_dict(encoder.backbone_state() | tokens)
        return encoder.eval()

    def backbone_state(self) -> dict[str, torch.Tensor]:
        """The backbone's share of `state_dict`."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("backbone.")}

    def save_config(self, folder: str | Path) -> None:
        """The backbone's `config.json` and this encoder's settings."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backbone.config.save_pretrained(folder)
        settings = {
            "image_size": self.image_size,
            "cls_width": self.cls_width,
            "patch_width": self.patch_width,
            "mean": self.mean,
            "std": self.std,
        }
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1) + "\n")

    def save_pretrained(self, folder: str | Path, max_shard_size: str = "14MB") -> None:
        """A transformers folder (loadable on its own with AutoModel) plus the whitening beside it."""
        folder = Path(folder)
        self.save_config(folder)
        self.backbone.save_pretrained(folder, max_shard_size=max_shard_size)
        backbone = self.backbone_state()
        whitening = {n: v.contiguous() for n, v in self.state_dict().items() if n not in backbone}
        save_file(whitening, folder / TOKENS_FILE)


def _grey_statistics(name_or_folder: str | Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Channel mean and deviation the backbone was trained with; ImageNet's where it does not say."""
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(name_or_folder)
    except OSError:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(settings.get("image_mean", IMAGENET_MEAN)), tuple(settings.get("image_std", IMAGENET_STD))
