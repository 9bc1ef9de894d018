"""What the bundle's checks say of a picture before anything is segmented, in sentences for a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dino_diffusion.models.encoder import EncoderOutput
    from dino_diffusion.models.view_checks import ViewChecks

FOREIGN = "This looks like no upright frontal chest radiograph; the labels mean little."
MIRRORED = (
    "The heart and the stomach seem to lie on the wrong side; is the picture mirrored? "
    "Right and left are named as if it were not."
)
NEGATIVE = "The grey values seem to be inverted (bone dark); the picture was read as its negative."


@dataclass(frozen=True)
class ViewReport:
    """`negative`: the grey values run the wrong way, and the picture was read the right way.

    `mirrored`: the heart and the stomach seem to lie on the wrong side; labels are not swapped for it.
    `foreign`: it looks like no upright frontal chest radiograph; labels mean little then.
    """

    negative: bool = False
    mirrored: bool = False
    foreign: bool = False

    @classmethod
    def of(cls, checks: ViewChecks | None, tokens: EncoderOutput) -> list[ViewReport]:
        """Of each picture of a batch; of checks that a bundle lacks there is nothing to say."""
        import torch

        if checks is None:
            return [cls()] * len(tokens.cls)
        scores = torch.stack(
            [checks.negative(tokens), checks.mirrored(tokens), checks.foreign(tokens)], dim=1
        )
        return [cls(*said) for said in (scores > 0).tolist()]  # a GPU is waited for once

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence each; on what is no chest radiograph no more than that."""
        if self.foreign:
            return (FOREIGN,)
        return (NEGATIVE,) * self.negative + (MIRRORED,) * self.mirrored


PROPER = ViewReport()
"""Nothing to say of it."""
