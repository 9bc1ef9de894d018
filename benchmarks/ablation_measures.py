"""What `ablations.py` measures of a denoiser: samples, likeness to their source, lungs in its features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dino_diffusion.crop import cut, whole
from dino_diffusion.evaluation.labelfiles import read_labels
from dino_diffusion.evaluation.probe import auc, cross_validated
from dino_diffusion.generation.sampled import DEFAULT_GUIDANCE, GUIDANCE_INTERVAL
from dino_diffusion.models import Autoencoder, Condition, Denoiser, DinoEncoder, Frame
from dino_diffusion.models.autoencoder import FACTOR
from dino_diffusion.models.encoder import EncoderOutput
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.sampling import SAMPLERS, guided, initial_noise, time_grid
from dino_diffusion.segmentation.features import Encoded, denoiser_features
from dino_diffusion.training.corpus import CorpusItem
from dino_diffusion.training.views import square
from dino_diffusion.view import SquareView

SAMPLER, STEPS = "dpmpp_2m", 8
BATCH = 16
TIME = 0.05
"""Flow time at which the denoiser looks at radiographs with lungs: the read-out's first."""


def pictures(items: Sequence[CorpusItem], size: int, batch: int) -> Iterator[torch.Tensor]:
    """Whole images `(B, 1, size, size)`."""
    for start in range(0, len(items), batch):
        views = [square(item.read()) for item in items[start : start + batch]]
        yield torch.cat([cut(view, whole(view.shape[-1]), size) for view in views])


def sampled(
    denoiser: Denoiser,
    tokens: EncoderOutput,
    frames: torch.Tensor,
    shape: Sequence[int],
    time_shift: float,
    seed: int = 0,
) -> torch.Tensor:
    """One latent for each of the conditions, of `shape` (N, C, h, w), on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    noise = initial_noise(shape, generator, denoiser.device)
    made = []
    for start in range(0, len(noise), BATCH):
        part = slice(start, start + BATCH)
        encoded = EncoderOutput(tokens.cls[part].to(noise.device), tokens.patches[part].to(noise.device))
        placed = frames[part].to(noise.device)
        velocity = guided(
            denoiser,
            denoiser.condition(encoded, placed),
            denoiser.unconditional(placed),
            DEFAULT_GUIDANCE,
            interval=GUIDANCE_INTERVAL,
            concatenate=Condition.cat,
        )
        made.append(SAMPLERS[SAMPLER](velocity, noise[part], time_grid(STEPS, time_shift)).float().cpu())
    return torch.cat(made)


def likeness(
    encoder: DinoEncoder, made: torch.Tensor, tokens: EncoderOutput, patients: Sequence[str]
) -> dict[str, float]:
    """Share of pictures to whose condition no other patient's is nearer (cosine), by CLS and by patches."""
    device = next(encoder.parameters()).device
    seen = [encoder(part.to(device)) for part in made.split(BATCH)]
    strangers = torch.tensor([[a != b for b in patients] for a in patients])
    pairs = {
        "cls": (torch.cat([each.cls for each in seen]), tokens.cls),
        "patches": (torch.cat([each.patches for each in seen]).flatten(1), tokens.patches.flatten(1)),
    }
    found = {}
    for name, (ours, theirs) in pairs.items():
        cosines = functional.normalize(ours.float().cpu()) @ functional.normalize(theirs).mT
        own, other = cosines.diagonal(), cosines.masked_fill(~strangers, -1).amax(1)
        found[f"nearest_{name}"] = float((own > other).double().mean())
        found[f"cosine_{name}"] = float(own.mean())
    return found


def lung_cells(files: Sequence[tuple[Path, Path]], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and masks as model views `(N, 1, size, size)` and lung cells of the latent `(N, h, w)` bool."""
    views, cells = [], []
    for image, mask in files:
        views.append(Radiograph.read(image).model_view(size).pixels)
        labels = read_labels(mask)[0]
        view = SquareView(labels.shape[0], labels.shape[1], size // FACTOR)
        lung = view.to_model((labels > 0).astype(np.float32))
        cells.append(lung[0, 0] > 0.5)
    return torch.cat(views), torch.stack(cells)


def lung_auc(
    denoiser: Denoiser,
    autoencoder: Autoencoder,
    encoder: DinoEncoder,
    pixels: torch.Tensor,
    cells: torch.Tensor,
) -> float:
    """How well a linear probe of the up-blocks tells lung cells from others, on images it has not seen."""
    layers = tuple(f"up_blocks.{number}" for number in range(len(denoiser.config.block_out_channels)))
    features = []
    for part in pixels.to(denoiser.device).split(BATCH):
        encoded = Encoded.of(part, encoder, autoencoder)
        generator = torch.Generator().manual_seed(0)
        features.append(denoiser_features(denoiser, encoded, layers, TIME, generator).float().cpu())
    rows = torch.cat(features).permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    labels = cells.flatten().numpy()
    images = [str(number) for number in range(len(pixels)) for _ in range(cells[0].numel())]
    return auc(labels, cross_validated(rows, labels, images))


def passes(denoiser: Denoiser, size: int) -> int:
    """Floating-point operations of one pass of one picture."""
    side = size // FACTOR
    latents = torch.zeros(1, denoiser.config.latent_channels, side, side, device=denoiser.device)
    frames = torch.tensor([Frame(size=size).numbers()], device=denoiser.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        denoiser(latents, latents.new_zeros(1), denoiser.unconditional(frames))
    return int(counter.get_total_flops())
