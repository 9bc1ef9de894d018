"""How good a bundle is: overlap with human masks, distances between image sets, round trips, memorisation.

Every file computes on arrays or on callables handed in; `release` and `lungs` alone know bundles and files.
"""

from dino_diffusion.errors import DinoDiffusionError


class EvaluationError(DinoDiffusionError):
    """A measurement cannot be made from what was handed in."""


def evenly(count: int, wanted: int) -> list[int]:
    """`wanted` different indices below `count`, spread evenly; all of them if `wanted` is no less."""
    wanted = min(count, wanted)
    return [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]
