"""What the training loop needs to learn a concept: the pictures' latents and the frozen denoiser's loss.

Half of the pictures are shown without any other token, so that the concept stands for whole pictures; of the
others a rectangle of patch tokens is missing, as inpainting takes them away under its mask, so that the
concept also says what belongs into a hole.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dino_diffusion.generation.concept import ENDING
from dino_diffusion.generation.conditioning import mean_of, with_vectors
from dino_diffusion.models import Condition, EncoderOutput, ModelBundle
from dino_diffusion.training.batches import Batch
from dino_diffusion.training.denoiser import draw_rectangles, draw_times
from dino_diffusion.training.latents import LatentCache
from dino_diffusion.training.loop import Step
from dino_diffusion.training.settings import RunSettings
from dino_diffusion.training.stream import EpochStream

MEASURED_VIEWS, MEASURED_TIMES = 16, (0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class InversionSettings:
    """Everything that decides what is learnt, beside the pictures and the bundle.

    `views`: prepared pictures a radiograph, the first shows it whole. `without_patches`: share of pictures
    shown with no token but the concept's. `start_noise`: standard deviation that parts the vectors at the
    start, since equal ones would get equal gradients for ever.
    """

    vectors: int = 8
    views: int = 2
    without_patches: float = 0.5
    start_noise: float = 0.05
    run: RunSettings = field(default_factory=RunSettings)


class ConceptVectors(nn.Module):
    """All that is trained."""

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(start)

    def forward(self, condition: Condition) -> Condition:
        return with_vectors(condition, self.vectors)


class ConceptPart:
    """A `Part` for the loop. `about`: fields of the `Concept` beside its vectors."""

    parameter_groups: list[dict[str, Any]] | None = None

    def __init__(
        self,
        bundle: ModelBundle,
        cache: LatentCache,
        name: str,
        settings: InversionSettings,
        about: dict[str, Any],
    ) -> None:
        self.bundle, self.cache, self.settings = bundle, cache, settings
        self.size = bundle.size
        fitting = cache.fits[self.size].nonzero()[:, 0]
        # Pictures of fewer pixels than the model's are better enlarged than not learnt from.
        self.places = fitting if len(fitting) else torch.arange(len(cache))
        self.stream = EpochStream([""] * len(self.places), settings.run.seed)
        self.whole = torch.from_numpy(np.unique(cache.items.numpy(), return_index=True)[1])
        films = EncoderOutput(cache.cls[self.whole].float(), cache.patches[self.whole].float())
        typical = bundle.prior.flat(films).mean(0)
        self.mean = mean_of(bundle, films.cls, name, typical=typical, **about)
        generator = torch.Generator().manual_seed(settings.run.seed)
        start = self.mean.vectors.repeat(settings.vectors, 1)
        if settings.vectors > 1:
            start += settings.start_noise * torch.randn(start.shape, generator=generator)
        self.module = ConceptVectors(start.to(bundle.device))
        self.figures: dict[str, float] = {}

    def batch(self, step: Step) -> Batch:
        """Clean latents with noise and flow times, the pictures' own tokens and which of the patches stay."""
        count, generator, device = self.settings.run.batch, step.generator(), step.device
        chosen = self.places[
            torch.from_numpy(self.stream.batch(step.number, count, step.rank, step.processes))
        ]
        clean = self.cache.latents[self.size][chosen].to(device).float()
        return {
            "clean": clean,
            "eps": torch.randn(clean.shape, generator=generator, device=device),
            "t": draw_times(count, self.bundle.time_shift, generator),
            "present": self._present(count, generator),
            "cls": self.cache.cls[chosen].to(device).float(),
            "patches": self.cache.patches[chosen].to(device).float(),
            "frames": self.cache.frames[self.size][chosen],
        }

    def _present(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Which tokens stay, `(count, 1 + grid^2)`: no patch at all, or all but a rectangle of them."""
        grid, device = self.bundle.denoiser.config.token_grid, generator.device
        alone = torch.rand(count, generator=generator, device=device) < self.settings.without_patches
        present = torch.ones(count, 1 + grid * grid, dtype=torch.bool, device=device)
        if grid:
            present[:, 1:] = ~(draw_rectangles(count, grid, generator) | alone[:, None])
        return present

    def losses(self, module: nn.Module, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        clean, eps, t = (batch[name] for name in ("clean", "eps", "t"))
        encoded = EncoderOutput(batch["cls"], batch["patches"])
        denoiser = self.bundle.denoiser
        condition = module(denoiser.condition(encoded, batch["frames"], batch["present"]))
        velocity = denoiser(torch.lerp(clean, eps, t[:, None, None, None]), t, condition)
        return {"loss": functional.mse_loss(velocity.float(), eps - clean)}

    def after_step(self, module: ConceptVectors, progress: float) -> None:
        """Nothing moves but the optimiser."""

    def validate(self, module: ConceptVectors, device: torch.device) -> dict[str, float]:
        """Flow loss of some of the radiographs with the concept alone, and with the mean it started from.

        They are the radiographs it was learnt from: a check that learning worked, not of what it is worth.
        """
        places = self.whole[:MEASURED_VIEWS]
        vectors = {"flow": module.vectors.detach(), "flow_class_mean": self.mean.vectors.to(device)}
        self.figures = {
            name: float(concept_loss(self.bundle, self.cache, places, value).mean())
            for name, value in vectors.items()
        }
        return self.figures

    def picture(self, module: ConceptVectors, device: torch.device, path: Path) -> None:
        """None: a concept is looked at with `generate`."""

    def save(self, module: ConceptVectors, folder: Path) -> None:
        """The concept as a file."""
        run, settings = self.settings.run, asdict(self.settings)
        # The folder is this machine's affair, and the rest of the run says nothing about what was learnt.
        settings["run"] = {name: settings["run"][name] for name in ("seed", "batch", "lr", "ema")}
        settings["figures"] = {name: round(value, 5) for name, value in self.figures.items()}
        vectors = module.vectors.detach().float().cpu()
        concept = replace(self.mean, vectors=vectors, steps=run.steps, settings=settings)
        concept.save(folder / f"{concept.name}{ENDING}")


@torch.no_grad()
def concept_loss(
    bundle: ModelBundle,
    cache: LatentCache,
    places: torch.Tensor,
    vectors: torch.Tensor | None,
    times: tuple[float, ...] = MEASURED_TIMES,
    seed: int = 0,
) -> torch.Tensor:
    """Flow loss `(views, times)` of cached views denoised with nothing but `vectors` (None: nothing at all).

    The noise belongs to (view, time, seed): differences between concepts are paired.
    """
    device, size = bundle.device, bundle.size
    rows = []
    for place in places.tolist():
        clean = cache.latents[size][place].to(device).float().expand(len(times), -1, -1, -1)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + place)
        eps = torch.randn(clean.shape, generator=generator).to(device)
        t = torch.tensor(times, device=device)
        condition = bundle.denoiser.unconditional(cache.frames[size][place].to(device).expand(len(times), -1))
        if vectors is not None:
            condition = with_vectors(condition, vectors.to(device))
        velocity = bundle.denoiser(torch.lerp(clean, eps, t[:, None, None, None]), t, condition)
        rows.append((velocity.float() - (eps - clean)).square().mean((1, 2, 3)).cpu())
    return torch.stack(rows)
