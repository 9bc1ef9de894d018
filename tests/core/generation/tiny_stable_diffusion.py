"""A complete Stable Diffusion checkpoint with random weights, in diffusers' layout, a few megabytes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH, LENGTH, SIZE = 32, 77, 32
LETTERS = "abcdefghijklmnopqrstuvwxyz-"


def saved_checkpoint(
    folder: Path, seed: int = 0, prediction: str = "epsilon", width: int = WIDTH, channels: int = 4
) -> Path:
    """Writes it; leaves torch's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = _tokenizer(folder)
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        CLIPTextModel(config).save_pretrained(folder / "text_encoder")
        AutoencoderKL(
            block_out_channels=(16, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=SIZE,
        ).save_pretrained(folder / "vae")
        UNet2DConditionModel(
            sample_size=SIZE // 8,
            in_channels=channels,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=8,
            norm_num_groups=8,
        ).save_pretrained(folder / "unet")
        DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction
        ).save_pretrained(folder / "scheduler")
    return folder


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Knows letters alone."""
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    place = folder / "tokenizer"
    place.mkdir(parents=True)
    (place / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt"))
    tokenizer.save_pretrained(place)
    return tokenizer
