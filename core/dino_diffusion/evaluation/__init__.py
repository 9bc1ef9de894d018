"""How good a bundle is: overlap with human masks, distances between image sets, round trips, memorisation.

Every file computes on arrays or on callables handed in; none of them loads a bundle or reads a radiograph.
"""

from dino_diffusion.errors import DinoDiffusionError


class EvaluationError(DinoDiffusionError):
    """A measurement cannot be made from what was handed in."""
