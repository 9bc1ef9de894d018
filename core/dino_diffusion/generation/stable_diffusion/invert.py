"""Textual inversion of a Stable Diffusion checkpoint: 64 vectors in place of a word (arXiv 2208.01618).

De Wilde et al. (2023, arXiv 2303.13430) learn 64 vectors in 50,000 steps for radiographs on a GPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from dino_diffusion.device import inference
from dino_diffusion.errors import ConceptError, ConfigurationError
from dino_diffusion.files.atomic import atomic_path
from dino_diffusion.generation.concept import ENDING, MOST_VECTORS, Concept
from dino_diffusion.generation.invert import Callback, run_settings
from dino_diffusion.generation.recipe import hash_of_set
from dino_diffusion.generation.stable_diffusion.backbone import PLACE, StableDiffusion
from dino_diffusion.generation.stable_diffusion.channels import Channels, read_channels, square
from dino_diffusion.training.batches import Batch
from dino_diffusion.training.loop import Step, make_accelerator, train
from dino_diffusion.training.settings import RunSettings
from dino_diffusion.training.stream import EpochStream

DEFAULT_VECTORS, DEFAULT_STEPS, BATCH, LEARNING_RATE = 64, 5000, 4, 5e-3
WORD = "radiograph"
"""Its vectors are where learning starts: CLIP knows it."""


@dataclass(frozen=True)
class TextSettings:
    """Everything that decides what is learnt, beside the pictures and the checkpoint."""

    vectors: int = DEFAULT_VECTORS
    prompt: str = PLACE
    word: str = WORD
    size: int = 512
    run: RunSettings = field(default_factory=RunSettings)


def invert(
    backbone: StableDiffusion,
    pictures: Sequence[Channels],
    name: str,
    vectors: int = DEFAULT_VECTORS,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    callback: Callback | None = None,
    folder: str | Path | None = None,
    prompt: str = PLACE,
    size: int | None = None,
    **about: Any,
) -> Concept:
    """Learns what `pictures` have in common, as vectors in place of a word; otherwise as `generation.invert`.

    A picture is a radiograph, or three sequences of one slice (`channels`). `prompt`: the text around the
    concept; `size`: side of the pictures, by default the checkpoint's.
    """
    if not 1 <= vectors <= MOST_VECTORS or steps < 1 or not pictures:
        raise ConceptError(
            f"Cannot learn {vectors} vectors from {len(pictures)} pictures in {steps} steps; ask for 1 to "
            f"{MOST_VECTORS} vectors, and give at least one picture and one step."
        )
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="dino-diffusion-") as temporary:
            return invert(
                backbone, pictures, name, vectors, steps, seed, callback, temporary, prompt, size, **about
            )
    folder, size = Path(folder), size or backbone.size
    start = word_vectors(backbone, WORD, vectors)
    # An impossible name, or a prompt that is too long, is refused before the work.
    concept = Concept(name, start, backbone.id, images=len(pictures), steps=steps, **about)
    backbone.condition(start, prompt)
    latents, sha256 = _latents(backbone, pictures, size, folder)
    run = run_settings(folder, steps, seed, BATCH, LEARNING_RATE)
    settings = TextSettings(vectors, prompt, WORD, size, run)
    part = TextPart(backbone, latents, replace(concept, data_sha256=sha256), settings)

    def tell(step: int, loss: float | None) -> bool | None:
        return callback(step, steps, loss) if callback else None

    accelerator = make_accelerator(cpu=backbone.device.type == "cpu")
    train(part, run, settings, quiet=True, accelerator=accelerator, callback=tell)
    return Concept.load(folder / "weights" / f"{name}{ENDING}")


def word_vectors(backbone: StableDiffusion, word: str, count: int) -> torch.Tensor:
    """The vectors `(count, width)` of a word's tokens, over and over: where learning starts."""
    tokens = backbone.tokenizer(word, add_special_tokens=False)["input_ids"]
    table = backbone.text_encoder.get_input_embeddings().weight.detach().float().cpu()
    return table[torch.tensor(tokens)[torch.arange(count) % len(tokens)]].clone()


def _latents(
    backbone: StableDiffusion, pictures: Sequence[Channels], size: int, folder: Path
) -> tuple[torch.Tensor, str]:
    """Latents `(N, C, h, w)` in half precision, made once, and the hash of the set of files."""
    # Read twice rather than held: a hundred large pictures of three channels would fill the memory.
    sha256 = hash_of_set("".join(read_channels(picture)[1]) for picture in pictures)
    path, origin = folder / "latents.safetensors", f"{backbone.id} {size} {sha256}"
    note = folder / "origin.txt"
    if note.exists() and note.read_text() != origin:
        raise ConfigurationError(
            f"{folder}: this work was begun with other pictures or another checkpoint; delete the folder or "
            "name another."
        )
    if not path.exists():
        parts = []
        with inference(backbone.device):
            for picture in pictures:
                view = square(read_channels(picture)[0], size).to(backbone.device)
                parts.append(backbone.encode(view).half().cpu())
        with atomic_path(note) as temporary:
            temporary.write_text(origin)
        with atomic_path(path) as temporary:
            save_file({"latents": torch.cat(parts)}, temporary)
    return load_file(path)["latents"], sha256


class TextVectors(nn.Module):
    """All that is trained; gives the text in which the vectors stand."""

    def __init__(self, backbone: StableDiffusion, start: torch.Tensor, prompt: str) -> None:
        super().__init__()
        self.vectors = nn.Parameter(start)
        # Not a submodule: it is frozen, and no part of a checkpoint.
        self._text = (backbone, prompt)

    def forward(self) -> torch.Tensor:
        backbone, prompt = self._text
        return backbone.condition(self.vectors, prompt)


class TextPart:
    """A `Part` for the training loop: the pictures' latents, and the frozen checkpoint's own loss on them."""

    parameter_groups: list[dict[str, Any]] | None = None

    def __init__(
        self, backbone: StableDiffusion, latents: torch.Tensor, concept: Concept, settings: TextSettings
    ) -> None:
        self.backbone, self.latents, self.concept, self.settings = backbone, latents, concept, settings
        self.stream = EpochStream([""] * len(latents), settings.run.seed)
        self.module = TextVectors(backbone, concept.vectors.to(backbone.device), settings.prompt)

    def batch(self, step: Step) -> Batch:
        """Clean latents with noise and timesteps, each equally likely."""
        count, generator, device = self.settings.run.batch, step.generator(), step.device
        chosen = torch.from_numpy(self.stream.batch(step.number, count, step.rank, step.processes))
        clean = self.latents[chosen].to(device).float()
        timesteps = len(self.backbone.scheduler.alphas_cumprod)
        return {
            "clean": clean,
            "eps": torch.randn(clean.shape, generator=generator, device=device),
            "step": torch.randint(0, timesteps, (count,), generator=generator, device=device),
        }

    def losses(self, module: nn.Module, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        clean, eps, step = (batch[name] for name in ("clean", "eps", "step"))
        text = module().expand(len(clean), -1, -1)
        predicted, wanted = self.backbone.prediction(clean, eps, step, text)
        return {"loss": functional.mse_loss(predicted.float(), wanted)}

    def after_step(self, module: TextVectors, progress: float) -> None:
        """Nothing moves but the optimiser."""

    def validate(self, module: TextVectors, device: torch.device) -> dict[str, float]:
        """Nothing: a checkpoint's loss on the pictures themselves says little, and costs much."""
        return {}

    def picture(self, module: TextVectors, device: torch.device, path: Path) -> None:
        """None: a concept is looked at with `paint`."""

    def save(self, module: TextVectors, folder: Path) -> None:
        """The concept as a file."""
        settings = asdict(self.settings)
        settings["run"] = {name: settings["run"][name] for name in ("seed", "batch", "lr", "ema")}
        vectors = module.vectors.detach().float().cpu()
        replace(self.concept, vectors=vectors, settings=settings).save(
            folder / f"{self.concept.name}{ENDING}"
        )
