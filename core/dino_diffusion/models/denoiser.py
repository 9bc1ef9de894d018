"""Conditional U-Net that predicts the rectified-flow velocity of a latent.

Conditions: the encoder's CLS token and its patch tokens pooled to a small grid (cross-attention), and the
frame: which part of the radiograph the picture shows and how finely its source resolves it (added to the
time embedding). Tokens can be missing one by one; each missing token is replaced by a learnt one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from dino_diffusion.models.encoder import EncoderOutput

TIME_SCALE = 1000.0
"""diffusers' time embedding expects [0, 1000]; the flow's t runs over [0, 1]."""

FRAME_FREQUENCIES = 4

PADDING_BIAS = -10000.0
"""Logit of a token that is only there to fill up a batch; diffusers masks with the same number."""


@dataclass(frozen=True)
class Frame:
    """What a picture shows: crop box in the padded square of the whole radiograph, and its resolution.

    `left, top, right, bottom` in [0, 1]; `source_side`: pixels along the crop's side in the source file;
    `size`: pixels along the side of the model's picture. `source_side >= size` asks for full detail.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    source_side: float = 512.0
    size: int = 256

    def numbers(self) -> list[float]:
        """Six numbers of order one, the denoiser's view of the frame."""
        ratio = torch.tensor([self.source_side / self.size, self.size / 256]).log2().clamp(-2, 2).tolist()
        return [self.left, self.top, self.right, self.bottom, *ratio]


@dataclass(frozen=True)
class Condition:
    """What guides a batch: `tokens` (B, K, width) and `frame` (B, F), both ready for the U-Net.

    `bias` (B, K) is added to the cross-attention's logits before the softmax (-log n gives n tokens together
    the weight of one); None is zero everywhere.
    """

    tokens: torch.Tensor
    frame: torch.Tensor
    bias: torch.Tensor | None = None

    @staticmethod
    def cat(conditions: list[Condition]) -> Condition:
        """Along the batch; those with fewer tokens are filled up with some that nothing attends to."""
        longest = max(c.tokens.shape[1] for c in conditions)
        if any(c.bias is not None or c.tokens.shape[1] < longest for c in conditions):
            conditions = [c._filled(longest) for c in conditions]
        biases = [c.bias for c in conditions if c.bias is not None]
        return Condition(
            torch.cat([c.tokens for c in conditions]),
            torch.cat([c.frame for c in conditions]),
            torch.cat(biases) if biases else None,
        )

    def repeat(self, count: int) -> Condition:
        """Each entry `count` times, neighbours alike."""
        bias = None if self.bias is None else self.bias.repeat_interleave(count, 0)
        return Condition(
            self.tokens.repeat_interleave(count, 0), self.frame.repeat_interleave(count, 0), bias
        )

    def _filled(self, length: int) -> Condition:
        bias = torch.zeros_like(self.tokens[..., 0]) if self.bias is None else self.bias
        missing = length - self.tokens.shape[1]
        return Condition(
            functional.pad(self.tokens, (0, 0, 0, missing)),
            self.frame,
            functional.pad(bias, (0, missing), value=PADDING_BIAS),
        )


class Denoiser(ModelMixin, ConfigMixin):
    """diffusers' UNet2DConditionModel with the conditioning in front of it.

    `token_grid` 0 conditions on CLS alone (the published DiNO-Diffusion); otherwise on CLS and
    `token_grid` x `token_grid` pooled patch tokens. Self-attention runs at every level but the first of
    the way down, and at full latent resolution on the way up, where segmentation reads it.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 8,
        block_out_channels: tuple[int, ...] = (64, 128, 192),
        layers_per_block: int = 1,
        head_width: int = 32,
        token_width: int = 192,
        cls_width: int = 192,
        patch_width: int = 64,
        token_grid: int = 4,
        norm_num_groups: int = 16,
    ) -> None:
        super().__init__()
        levels = len(block_out_channels)
        self.unet = UNet2DConditionModel(
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            mid_block_type="UNetMidBlock2DCrossAttn",
            attention_head_dim=tuple(width // head_width for width in block_out_channels),  # number of heads
            cross_attention_dim=token_width,
            norm_num_groups=norm_num_groups,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=frame_width(),
        )
        self.tokens = token_grid**2 + 1
        self.project_cls = nn.Linear(cls_width, token_width)
        self.project_patches = nn.Linear(patch_width, token_width)
        self.position = nn.Parameter(torch.randn(self.tokens, token_width) * 0.5)
        self.missing = nn.Parameter(torch.randn(self.tokens, token_width) * 0.5)
        self.norm = nn.LayerNorm(token_width)

    def condition(
        self, encoded: EncoderOutput, frames: torch.Tensor, present: torch.Tensor | None = None
    ) -> Condition:
        """Condition of a batch. `frames` (B, 6) from `Frame.numbers`; `present` (B, K) bool, all if None."""
        grid = self.config.token_grid
        tokens = self.project_cls(encoded.cls)[:, None]
        if grid:
            tokens = torch.cat([tokens, self.project_patches(encoded.pooled(grid))], dim=1)
        return self._assemble(tokens, frames, present)

    def unconditional(self, frames: torch.Tensor) -> Condition:
        """Every token missing; the frame is kept, so that guidance does not push against it."""
        nothing = self.missing.new_zeros(len(frames), self.tokens, self.missing.shape[1])
        return self._assemble(nothing, frames, torch.zeros_like(nothing[..., 0], dtype=torch.bool))

    def mean_cls(self, cls: torch.Tensor) -> torch.Tensor:
        """The token `(1, width)` that the mean of CLS tokens `(N, width)` becomes, ready for the U-Net."""
        return self.norm(self.project_cls(cls.mean(0, keepdim=True)) + self.position[:1])

    def _assemble(
        self, tokens: torch.Tensor, frames: torch.Tensor, present: torch.Tensor | None
    ) -> Condition:
        if present is not None:
            tokens = torch.where(present[..., None], tokens, self.missing)
        return Condition(self.norm(tokens + self.position), embed_frame(frames))

    def forward(self, latents: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Velocity `eps - x0` (B, C, h, w) at `latents` and flow time `t` (B,) in [0, 1]."""
        # diffusers makes the bias (1 - mask) * -10000 of a mask; any bias can be asked for that way.
        mask = None if condition.bias is None else 1 - condition.bias / PADDING_BIAS
        return self.unet(
            latents,
            t * TIME_SCALE,
            encoder_hidden_states=condition.tokens,
            class_labels=condition.frame,
            encoder_attention_mask=mask,
            return_dict=False,
        )[0]


def embed_frame(frames: torch.Tensor) -> torch.Tensor:
    """Fourier features of frame numbers: `(B, 6)` to `(B, frame_width())`."""
    angles = frames[..., None] * torch.pi * 2.0 ** torch.arange(FRAME_FREQUENCIES, device=frames.device)
    return torch.cat([frames, angles.sin().flatten(1), angles.cos().flatten(1)], dim=1)


def frame_width() -> int:
    """Width of the frame's embedding."""
    return len(Frame().numbers()) * (1 + 2 * FRAME_FREQUENCIES)
