"""The model bundle a command asks for, on the device it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dino_diffusion.cli.console import Output, hush_libraries

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle


def load_bundle(name: str | None, device: str | None, output: Output) -> ModelBundle:
    """Raises BundleError, and ConfigurationError for a device that is not there."""
    with output.progress("Loading the model bundle"):
        hush_libraries()
        from dino_diffusion.device import choose_device
        from dino_diffusion.models import ModelBundle

        return ModelBundle.from_pretrained(name, choose_device(device))
