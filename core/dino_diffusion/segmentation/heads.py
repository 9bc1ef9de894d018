"""The light head that reads learnt segments from descriptors, and its training.

It is two experts. One reads everything, and learns the quirks of a single example along with the structure.
The other has nothing to learn but which of the regions known without a label belong to the structure. Where
that draws the examples well, as it does lungs and their zones, a mean of both is better than either, and the
fewer examples there are, the more the second counts; where it does not, as for a heart, the first decides
alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from dino_diffusion.segmentation.descriptors import FINE_WIDTH, Descriptors
from dino_diffusion.segmentation.known_regions import REGIONS, known_regions
from dino_diffusion.segmentation.least_area import least_area
from dino_diffusion.segmentation.outline_cues import CUES

HIDDEN, FINE_HIDDEN = 24, 24
STEPS, BATCH, RATE, WEIGHT_DECAY = 200, 8, 4e-3, 0.05
OVERLAP = 0.5
"""Weight of the overlap (soft Dice) beside the cross-entropy: without it thin structures vanish."""

ASTRAY = 0.3
"""Standard deviation of what a lesson's places are displaced by, in half distances between the lungs.

Altered copies of one example move picture and mask alike, so the place in the chest tells its mask exactly; a
head that may trust it draws the example's outline into every chest, and looks at nothing.
"""

WORTH = 2
"""As many examples what is known without a label counts for, beside those that were taught."""

UNTRUSTED, TRUSTED = 0.75, 0.85
"""The second expert's Dice on the examples from which it is asked at all, and from which it counts fully.

What holds the lungs (a hull around both: 0.76) must not become them.
"""


class SegmentHead(nn.Module):
    """Descriptors to background, then each label, `(B, labels + 1, S / FINE, S / FINE)`.

    What the coarse descriptors say is brought to the finer grid, where grey values decide the outline.
    `belongs` (labels + 1, REGIONS) is the second expert: 1 where a known region belongs to a label, else 0;
    `trust` (labels,) how far to believe it about each label, in [0, 1]. `least` (labels,) is the least area
    of a label in an example, in units of the chest, as far as the second expert does not say where it is.
    `recovered` (labels, len(CUES)) says how well each cue finds an example's outline again.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    belongs: torch.Tensor
    trust: torch.Tensor
    least: torch.Tensor
    recovered: torch.Tensor

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, 1, 1))
        self.register_buffer("scale", torch.ones(width, 1, 1))
        self.coarse = nn.Sequential(
            nn.Dropout2d(0.1),
            nn.Conv2d(width, HIDDEN, 1),
            nn.GELU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.GELU(),
            nn.Dropout2d(0.2),
        )
        self.vote = nn.Conv2d(HIDDEN, labels + 1, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(HIDDEN + FINE_WIDTH, FINE_HIDDEN, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(FINE_HIDDEN, FINE_HIDDEN, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(FINE_HIDDEN, labels + 1, 1),
        )
        self.register_buffer("belongs", torch.zeros(labels + 1, REGIONS))
        self.register_buffer("trust", torch.zeros(labels))
        self.register_buffer("least", torch.zeros(labels))
        self.register_buffer("recovered", torch.zeros(labels, len(CUES)))

    def forward(self, seen: Descriptors, examples: int) -> torch.Tensor:
        """Probabilities, of both experts together; `examples` in all were taught, to this head or others."""
        alone = self.read(seen).float().softmax(1)
        share = self.trust[:, None, None] * WORTH / (WORTH + examples)
        labels = (1 - share) * alone[:, 1:] + share * self.name(seen.known)[:, 1:]
        labels = labels / labels.sum(1, keepdim=True).clamp_min(1)  # labels trusted unlike may exceed 1
        return torch.cat([1 - labels.sum(1, keepdim=True), labels], dim=1)

    def name(self, known: torch.Tensor) -> torch.Tensor:
        """The second expert's probabilities, from those of background, right and left lung."""
        return torch.einsum("lk,bkhw->blhw", self.belongs, known_regions(known))

    def read(self, seen: Descriptors) -> torch.Tensor:
        """The first expert's logits."""
        hidden = self.coarse((seen.coarse - self.mean) / self.scale)
        both = torch.cat([hidden, self.vote(hidden)], dim=1)
        both = functional.interpolate(both, seen.fine.shape[-2:], mode="bilinear", align_corners=False)
        hidden, votes = both[:, :HIDDEN], both[:, HIDDEN:]
        return votes + self.fine(torch.cat([hidden, seen.fine], dim=1))


def train_head(
    seen: Descriptors,
    targets: torch.Tensor,
    examples: int,
    seed: int,
    tell: Callable[[int], None] | None = None,
) -> SegmentHead:
    """A head for `targets` (N, labels + 1, S / FINE, S / FINE), shares of each cell that sum to 1.

    The first `examples` of them are examples as they are, the others altered copies.
    The same seed on the same device gives the same head; torch's random state stays as it was. `tell` gets
    the number of the step that is done; what it raises ends the training.
    """
    device = seen.coarse.device
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        head = SegmentHead(seen.coarse.shape[1], targets.shape[1] - 1).to(device)
        head.mean.copy_(seen.coarse.mean((0, 2, 3))[:, None, None])
        head.scale.copy_(seen.coarse.std((0, 2, 3))[:, None, None] + 0.01)
        optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
        for step in range(1, STEPS + 1):
            chosen = torch.randint(len(targets), (BATCH,), generator=generator).to(device)
            astray = ASTRAY * torch.randn(BATCH, 2, generator=generator).to(device)
            loss = _loss(head.read(seen[chosen].displaced(astray)), targets[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if tell is not None:
                tell(step)
        _fit_names(head, seen.known, targets)
        head.least.copy_((1 - head.trust) * least_area(targets[:examples], seen.area[:examples]))
    return head.eval().requires_grad_(False)


def _fit_names(head: SegmentHead, known: torch.Tensor, targets: torch.Tensor) -> None:
    """Each known region belongs to the label that covers most of it; trust is how well that draws them.

    All labels that a region belongs to are judged together: where one lung of an example is drawn badly,
    be it by disease or by hand, the other one still says that lungs are meant.
    """
    covered = torch.einsum("blhw,bkhw->lk", targets, known_regions(known))
    head.belongs.copy_(functional.one_hot(covered.argmax(0), len(covered)).T)
    found, wanted = head.name(known)[:, 1:] > 0.5, targets[:, 1:] > 0.5
    named = head.belongs[1:].any(1)
    shared = (found & wanted).sum((0, 2, 3))[named].sum()
    area = (found.sum((0, 2, 3)) + wanted.sum((0, 2, 3)))[named].sum()
    dice = 2 * shared / area.clamp_min(1)
    head.trust.copy_(named * ((dice - UNTRUSTED) / (TRUSTED - UNTRUSTED)).clamp(0, 1))


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    cross_entropy = -(targets * logits.log_softmax(1)).sum(1).mean()
    found, wanted = logits.softmax(1)[:, 1:], targets[:, 1:]
    shared = (found * wanted).sum((0, 2, 3))
    dice = (2 * shared + 1) / (found.sum((0, 2, 3)) + wanted.sum((0, 2, 3)) + 1)
    return cross_entropy + OVERLAP * (1 - dice).mean()
