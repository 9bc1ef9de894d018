"""A Stable Diffusion checkpoint as a velocity model of rectified flow, so that every sampler fits it.

Stable Diffusion is variance preserving: z = alpha x0 + sigma eps with alpha^2 + sigma^2 = 1. With t / (1 - t)
= sigma / alpha, x_t = z / (alpha + sigma) lies on the straight path (1 - t) x0 + t eps, and the velocity
eps - x0 follows from what the network predicts. So guidance, composition, samplers and inpainting are the
very functions the bundle uses (`sampling`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from dino_diffusion.errors import BundleError, ConceptError, ConfigurationError
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.stable_diffusion.embedding import UNKNOWN

PLACE = "{}"
"""Where in a prompt the concept stands."""

PREDICTIONS = ("epsilon", "v_prediction")


@dataclass
class StableDiffusion:
    """The parts of a checkpoint on one device, ready for inference; nothing of them is ever changed."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    autoencoder: AutoencoderKL
    denoiser: UNet2DConditionModel
    scheduler: DDIMScheduler

    def __post_init__(self) -> None:
        channels, latent = self.denoiser.config.in_channels, self.autoencoder.config.latent_channels
        if channels != latent:
            raise BundleError(
                f"The checkpoint's network takes {channels} channels where its latents have {latent}; take a "
                "plain text-to-image checkpoint, not one for inpainting or depth."
            )
        width, text = self.denoiser.config.cross_attention_dim, self.width
        if width != text:
            raise BundleError(
                f"The checkpoint's network takes texts of width {width}, its text encoder gives {text}; take "
                "Stable Diffusion 1 or 2, whose parts belong together."
            )
        if self.scheduler.config.prediction_type not in PREDICTIONS:
            raise BundleError(
                f"The checkpoint predicts '{self.scheduler.config.prediction_type}'; take one that predicts "
                f"{' or '.join(PREDICTIONS)}."
            )
        for part in (self.text_encoder, self.autoencoder, self.denoiser):
            part.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, path_or_hub: str | Path, device: torch.device | str = "cpu") -> StableDiffusion:
        """From a folder in diffusers' layout, or a hub name; safetensors only. Raises BundleError."""
        loaders: dict[str, tuple[Any, str]] = {
            "tokenizer": (CLIPTokenizer, "tokenizer"),
            "text_encoder": (CLIPTextModel, "text_encoder"),
            "autoencoder": (AutoencoderKL, "vae"),
            "denoiser": (UNet2DConditionModel, "unet"),
            "scheduler": (DDIMScheduler, "scheduler"),
        }
        parts: dict[str, Any] = {}
        for name, (kind, folder) in loaders.items():
            weights = {"use_safetensors": True} if issubclass(kind, nn.Module) else {}
            try:
                parts[name] = kind.from_pretrained(path_or_hub, subfolder=folder, **weights)
            except Exception as error:
                # Libraries raise anything here, from JSON to network errors; the user needs one sentence.
                reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
                raise BundleError(
                    f"{path_or_hub}: its part '{folder}' cannot be read ({reason}); name a Stable Diffusion "
                    "1 or 2 checkpoint folder in diffusers' layout with safetensors, or its hub name."
                ) from error
        found = cls(**parts)
        for part in (found.text_encoder, found.autoencoder, found.denoiser):
            part.to(device).float()
        return found

    # --- what it is --------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return next(self.denoiser.parameters()).device

    @property
    def width(self) -> int:
        """Width of a text's vectors: 768 for version 1, 1024 for version 2."""
        return self.text_encoder.config.hidden_size

    @property
    def length(self) -> int:
        """Vectors of a prompt, the two that mark its ends included: 77."""
        return self.text_encoder.config.max_position_embeddings

    @property
    def factor(self) -> int:
        """Pixels a latent cell spans in each direction."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

    @property
    def size(self) -> int:
        """Side of the pictures it was trained on, in pixels."""
        return self.denoiser.config.sample_size * self.factor

    @cached_property
    def id(self) -> str:
        """Sixteen hex digits that name the text encoder: embeddings depend on it, and fine-tunes share it."""
        digest = hashlib.sha256()
        for name, value in sorted(self.text_encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().half().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def check(self, concept: Concept) -> None:
        """Raises ConceptError unless the concept is for this text encoder; a foreign one needs its width."""
        if concept.vectors.shape[1] != self.width:
            raise ConceptError(
                f"Concept '{concept.name}' has vectors of width {concept.vectors.shape[1]}, this "
                f"checkpoint's texts have {self.width}; take one for Stable Diffusion "
                f"{'2' if self.width == 1024 else '1'}.x."
            )
        if concept.model not in (UNKNOWN, self.id):
            raise ConceptError(
                f"Concept '{concept.name}' was learnt for text encoder {concept.model}, this checkpoint's is "
                f"{self.id}; learn it again, or load the checkpoint it was made with."
            )

    # --- text --------------------------------------------------------------------------------------

    def condition(self, vectors: Tensor | None, prompt: str = PLACE) -> Tensor:
        """The text `(1, length, width)` with `vectors` (K, width) where the prompt has `{}`; None: as it is.

        Gradients reach the vectors. Raises ConfigurationError for a prompt that is too long for them.
        """
        before, place, after = prompt.partition(PLACE)
        if vectors is not None and not place:
            raise ConfigurationError(
                f"The prompt '{prompt}' has no {PLACE}; write it where the concept goes."
            )
        count = 0 if vectors is None else len(vectors)
        head, tail = (self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
        inner = len(head) + count + len(tail)
        if inner > self.length - 2:
            raise ConfigurationError(
                f"The concept's {count} vectors and {inner - count} words make more than the "
                f"{self.length - 2} that a prompt can hold; shorten the prompt, and compose concepts instead "
                "of writing two into one prompt."
            )
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        fill = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else end
        ids = [begin, *head, *[end] * count, *tail, end]
        ids += [fill] * (self.length - len(ids))
        tokens = torch.tensor([ids], device=self.device)
        start = 1 + len(head)
        with _instead(self.text_encoder.get_input_embeddings(), vectors, start):
            return self.text_encoder(tokens).last_hidden_state

    # --- pictures ----------------------------------------------------------------------------------

    def encode(self, pictures: Tensor) -> Tensor:
        """`(B, 3, H, W)` in [0, 1] to latents; H and W are multiples of `factor`."""
        return self.autoencoder.encode(pictures * 2 - 1).latent_dist.mode() * self._scaling

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to `(B, 3, H, W)` in [0, 1]."""
        return (self.autoencoder.decode(latents / self._scaling).sample / 2 + 0.5).clamp(0, 1)

    @property
    def _scaling(self) -> float:
        return self.autoencoder.config.scaling_factor

    # --- the network -------------------------------------------------------------------------------

    @cached_property
    def _ratios(self) -> Tensor:
        """sigma / alpha `(T,)` float64 of the checkpoint's timesteps, rising."""
        kept = self.scheduler.alphas_cumprod.double()
        return ((1 - kept) / kept).sqrt()

    @property
    def noisiest(self) -> float:
        """The flow time of its last timestep, a little below 1: where sampling starts."""
        ratio = float(self._ratios[-1])
        return ratio / (1 + ratio)

    def timesteps(self, t: Tensor) -> Tensor:
        """Timesteps, fractions included, of flow times `(B,)`; interpolated in the logarithm of the ratio."""
        known = self._ratios.log().to(t.device)
        wanted = (t.double() / (1 - t.double())).clamp(known[0].exp(), known[-1].exp()).log()
        upper = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
        low, high = known[upper - 1], known[upper]
        return (upper - 1 + (wanted - low) / (high - low)).to(t)

    def velocity(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Velocity eps - x0 `(B, C, h, w)` at x and flow times `t` (B,): a `sampling.Predictor`."""
        level = t.to(x).reshape(-1, 1, 1, 1)
        length = (level**2 + (1 - level) ** 2).sqrt()
        z, alpha, sigma = x / length, (1 - level) / length, level / length
        predicted = self.denoiser(z, self.timesteps(t), encoder_hidden_states=condition).sample
        if self._predicts_noise:
            return predicted - (z - sigma * predicted) / alpha
        return (sigma * z + alpha * predicted) - (alpha * z - sigma * predicted)

    def prediction(
        self, clean: Tensor, eps: Tensor, steps: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the network says of noised latents at timesteps `(B,)`, and what it should have said."""
        kept = self.scheduler.alphas_cumprod.to(clean)[steps].reshape(-1, 1, 1, 1)
        alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        predicted = self.denoiser(alpha * clean + sigma * eps, steps, encoder_hidden_states=condition).sample
        return predicted, eps if self._predicts_noise else alpha * eps - sigma * clean

    @property
    def _predicts_noise(self) -> bool:
        return self.scheduler.config.prediction_type == "epsilon"


@contextmanager
def _instead(layer: nn.Module, vectors: Tensor | None, start: int) -> Iterator[None]:
    """From place `start` of a text on, the embedding layer gives this thread `vectors`; afterwards it is as
    before."""
    if vectors is None:
        yield
        return
    thread = threading.get_ident()

    def replaced(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        if threading.get_ident() != thread:
            return output
        placed = vectors.to(output).expand(len(output), -1, -1)
        return torch.cat([output[:, :start], placed, output[:, start + len(vectors) :]], dim=1)

    handle = layer.register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()
