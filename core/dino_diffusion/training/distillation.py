"""DINO self-distillation of the encoder, with the KoLeo regulariser, by multi-crop.

The student sees crops of a radiograph and predicts what the teacher, the student's moving average, sees in
larger crops of it (DINO, Caron et al. 2021); the teacher's scores are balanced by Sinkhorn-Knopp, and KoLeo
spreads the embeddings (DINOv2, Oquab et al. 2023). Grey values are varied; nothing is ever flipped, since
left and right lung are not the same.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dino_diffusion.crop import Box, cut
from dino_diffusion.models.encoder import DinoEncoder
from dino_diffusion.training.batches import Batch, Prefetcher
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.encoder import (
    fit_whitening,
    held_out_crops,
    retrieval,
    save_encoder,
    whitening_views,
)
from dino_diffusion.training.loop import Step
from dino_diffusion.training.pictures import save_grid
from dino_diffusion.training.settings import EncoderSettings
from dino_diffusion.training.stream import EpochStream
from dino_diffusion.training.views import MAX_ENLARGEMENT, square
from dino_diffusion.view import resize

log = logging.getLogger(__name__)

GLOBAL_CROPS = 2
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.06
LOCAL_SIZE = 0.58
"""Side of a local crop as a share of the encoder's picture (96 of 168 px, rounded to patches)."""

HIDDEN, BOTTLENECK = 1024, 192


class ProjectionHead(nn.Module):
    """CLS tokens `(B, width)` to scores against `prototypes` unit vectors `(B, prototypes)`."""

    def __init__(self, width: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, BOTTLENECK),
        )
        self.prototypes = nn.Parameter(functional.normalize(torch.randn(prototypes, BOTTLENECK), dim=1))

    def forward(self, cls: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.mlp(cls), dim=1) @ functional.normalize(self.prototypes, dim=1).T


class Distilled(nn.Module):
    """Student and teacher, each an encoder with a head. Only the student learns by gradient."""

    def __init__(self, encoder: DinoEncoder, prototypes: int) -> None:
        super().__init__()
        self.student = copy.deepcopy(encoder).requires_grad_(True)
        for name, parameter in self.student.named_parameters():
            # Not part of the forward pass; several processes would wait for its gradient.
            parameter.requires_grad_("mask_token" not in name and "pooler" not in name)
        self.student_head = ProjectionHead(encoder.backbone.config.hidden_size, prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.student_head).requires_grad_(False)

    def forward(self, globals_: torch.Tensor, locals_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From crops `(B, crops, 1, h, w)`: student scores `(crops, B, K)`, its CLS tokens `(2, B, width)` of
        the global crops, teacher scores `(2, B, K)` of them."""
        batch = len(globals_)
        wide, narrow = globals_.transpose(0, 1).flatten(0, 1), locals_.transpose(0, 1).flatten(0, 1)
        cls, _ = self.student.raw_tokens(wide, wide.shape[-1])
        everything = [cls]
        if len(narrow):
            everything.append(self.student.raw_tokens(narrow, narrow.shape[-1])[0])
        scores = self.student_head(torch.cat(everything)).unflatten(0, (-1, batch))
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher.raw_tokens(wide, wide.shape[-1])[0])
        return scores, cls.unflatten(0, (-1, batch)), teacher.unflatten(0, (-1, batch))

    @torch.no_grad()
    def move_teacher(self, momentum: float) -> None:
        """The teacher becomes `momentum` of itself and the rest of the student."""
        for slow, fast in ((self.teacher, self.student), (self.teacher_head, self.student_head)):
            torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - momentum)


class DistillationPart:
    """A `Part` for the loop."""

    def __init__(self, settings: EncoderSettings, encoder: DinoEncoder) -> None:
        self.settings = settings
        data, run = settings.data, settings.run
        items = load_corpus(data.path, data.splits, data.sources, data.limit)
        self.held_out = held_out_crops(settings)
        stream = EpochStream([item.source for item in items], run.seed, data.most_of_a_source)
        size, patch = settings.image_size, encoder.patch_size
        sizes = (size, max(1, round(size * LOCAL_SIZE / patch)) * patch)
        make = functools.partial(draw_crops, items, sizes, settings)
        self.batches = Prefetcher(stream, make, run.batch, run.workers)
        self.original = encoder
        self.comparison: dict[str, Any] = {}
        self.module = Distilled(encoder, settings.head_width)
        self.parameter_groups: list[dict[str, Any]] | None = layer_groups(
            self.module, run.lr, settings.layer_decay
        )

    def batch(self, step: Step) -> Batch:
        return self.batches.batch(step.number, step.rank, step.processes)

    def losses(self, module: nn.Module, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        scores, cls, teacher = module(batch["globals"], batch["locals"])
        losses = {"dino": dino_loss(scores.float(), teacher.float())}
        losses["koleo"] = torch.stack([koleo_loss(crop.float()) for crop in cls]).mean()
        losses["loss"] = losses["dino"] + self.settings.koleo * losses["koleo"]
        return losses

    def after_step(self, module: Distilled, progress: float) -> None:
        """Moves the teacher; its momentum rises to 1 by a cosine."""
        rest = (1 - self.settings.momentum) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        module.move_teacher(1 - rest)

    @torch.no_grad()
    def validate(self, module: Distilled, device: torch.device) -> dict[str, float]:
        return {"retrieval": retrieval(module.teacher, self.held_out, device, whitened=False)}

    @torch.no_grad()
    def picture(self, module: Distilled, device: torch.device, path: Path) -> None:
        """Held-out crops and the three leading components of their patch tokens, a row each."""
        pixels = self.held_out[0][:6]
        _, patches = module.teacher.raw_tokens(pixels.to(device))
        flat = patches.flatten(0, 2).float().cpu()
        _, _, directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        maps = ((flat - flat.mean(0)) @ directions[:3].T).view(*patches.shape[:3], 3).permute(3, 0, 1, 2)
        low, high = (maps.flatten(1).quantile(q, dim=1)[:, None, None, None] for q in (0.01, 0.99))
        rows = [resize(row[:, None], pixels.shape[-1]) for row in (maps - low) / (high - low).clamp_min(1e-6)]
        save_grid(torch.cat([pixels, *rows]), path, columns=len(pixels))

    def save(self, module: Distilled, folder: Path) -> None:
        """Writes the distilled encoder if it tells held-out images apart better than the original, else that.

        Both get a whitening of their own. The figures are kept in `comparison.json` beside `folder`.
        """
        device = next(module.parameters()).device
        encoders = {"original": self.original, "distilled": module.teacher}
        views = whitening_views(self.settings)
        for encoder in encoders.values():
            fit_whitening(encoder, views, device)
        scores = {name: retrieval(encoder, self.held_out, device) for name, encoder in encoders.items()}
        kept = max(scores, key=lambda name: scores[name])
        self.comparison = {f"retrieval_{name}": score for name, score in scores.items()} | {"kept": kept}
        (folder.parent / "comparison.json").write_text(json.dumps(self.comparison, indent=1) + "\n")
        log.warning(
            "held-out crop-to-crop retrieval: original %.4f, distilled %.4f; the %s encoder is kept",
            scores["original"],
            scores["distilled"],
            kept,
        )
        save_encoder(encoders[kept], folder)


def draw_crops(
    items: list[CorpusItem], sizes: tuple[int, int], settings: EncoderSettings, place: int, index: int
) -> Batch:
    """`globals` (2, 1, s, s) and `locals` (n, 1, l, l) of one image, each with its own grey values."""
    rng = np.random.default_rng((settings.run.seed, place))
    picture = square(items[index].read())
    low, high = settings.local_scale

    def crop(size: int, least: float, most: float) -> torch.Tensor:
        side = picture.shape[-1]
        # A share of the area; never so small that the crop must be enlarged much.
        smallest = min(side, math.ceil(size / MAX_ENLARGEMENT))
        span = int(np.clip(round(side * math.sqrt(rng.uniform(least, most))), smallest, side))
        box = Box(int(rng.integers(0, side - span + 1)), int(rng.integers(0, side - span + 1)), span)
        return vary_grey(cut(picture, box, size)[0], rng)

    wide = torch.stack([crop(sizes[0], high, 1.0) for _ in range(GLOBAL_CROPS)])
    narrow = [crop(sizes[1], low, high) for _ in range(settings.local_crops)]
    return {
        "globals": wide,
        "locals": torch.stack(narrow) if narrow else wide.new_zeros(0, 1, sizes[1], sizes[1]),
    }


def vary_grey(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Gamma, contrast, brightness, blur and noise as between detectors; pixels `(1, h, w)` in [0, 1]."""
    varied = pixels.clamp(0, 1) ** float(np.exp(rng.uniform(-0.4, 0.4)))
    varied = (varied - 0.5) * float(rng.uniform(0.7, 1.3)) + 0.5 + float(rng.uniform(-0.15, 0.15))
    if rng.random() < 0.3:
        varied = functional.avg_pool2d(varied, 3, 1, 1, count_include_pad=False)
    if rng.random() < 0.3:
        strength = float(rng.uniform(0.005, 0.03))
        varied = varied + strength * torch.from_numpy(rng.standard_normal(varied.shape, dtype=np.float32))
    return varied.clamp(0, 1)


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, temperature: float = TEACHER_TEMPERATURE, rounds: int = 3) -> torch.Tensor:
    """Teacher scores `(B, K)` to assignments: rows sum to 1, prototypes are used alike.

    Sinkhorn-Knopp (SwAV, Caron et al. 2020) over this process's batch.
    """
    logits = scores / temperature
    plan = (logits - logits.max()).exp()
    for _ in range(rounds):
        plan = plan / plan.sum(0).clamp_min(1e-12)
        plan = plan / plan.sum(1, keepdim=True).clamp_min(1e-12)
    return plan


def dino_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the teacher's view of each global crop and the student's of every other crop.

    student `(crops, B, K)`, the global ones first; teacher `(2, B, K)`.
    """
    predictions = (student / STUDENT_TEMPERATURE).log_softmax(-1)
    pairs = [
        -(sinkhorn(target) * prediction).sum(-1).mean()
        for seen, target in enumerate(teacher)
        for crop, prediction in enumerate(predictions)
        if crop != seen
    ]
    return torch.stack(pairs).mean()


def koleo_loss(tokens: torch.Tensor) -> torch.Tensor:
    """Minus the mean log distance to the nearest neighbour (Sablayrolles et al. 2019) of `(B, width)`."""
    if len(tokens) < 2:
        return tokens.sum() * 0
    unit = functional.normalize(tokens, dim=1)
    with torch.no_grad():
        nearest = (unit @ unit.T).fill_diagonal_(-1).argmax(1)
    return -((unit - unit[nearest]).norm(dim=1) + 1e-6).log().mean()


def layer_groups(module: Distilled, lr: float, decay: float) -> list[dict[str, Any]]:
    """Optimiser groups: the learning rate falls by `decay` a block from the top to the patch embedding.

    Biases, norms and position embeddings are not decayed in weight.
    """
    blocks = module.student.backbone.config.num_hidden_layers
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        block = re.search(r"\blayers?\.(\d+)\.", name)
        depth = int(block.group(1)) + 1 if block else 0 if "embeddings" in name else blocks + 1
        shrinks = parameter.ndim > 1 and "embeddings" not in name
        groups.setdefault((depth, shrinks), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * decay ** (blocks + 1 - depth)}
        | ({} if shrinks else {"weight_decay": 0.0})
        for (depth, shrinks), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]
