"""How a synthetic image came about: everything needed to make it again, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from dino_diffusion import __version__
from dino_diffusion.errors import ConfigurationError

MARK = "synthetic: made by dino-diffusion"


@dataclass(frozen=True)
class Recipe:
    """`operation` and its `parameters`, the `bundle` by its id, `inputs` by the hash of their files.

    Replayed (`variants.replay`) on the same `device` it gives the same pixels. It never holds a path or a
    patient's name.
    """

    operation: str
    bundle: str
    parameters: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    version: str = __version__
    synthetic: str = MARK
    device: str = ""

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Reads `to_json`. Raises ConfigurationError for anything else."""
        try:
            recipe = cls(**json.loads(text))
            if not isinstance(recipe.parameters, dict) or not isinstance(recipe.inputs, dict):
                raise TypeError("parameters and inputs must be objects")
            return recipe
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"This is no recipe of dino-diffusion ({error}); pass the .recipe.json."
            ) from error
