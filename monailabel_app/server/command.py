"""`dino-diffusion serve`: what a person types. The server itself is imported when it starts."""

from __future__ import annotations

import importlib.util

from dino_diffusion.errors import ConfigurationError


def serve() -> None:
    """Start the server for 3D Slicer and other MONAI Label clients."""
    check_installed()


def check_installed() -> None:
    """Raises ConfigurationError where the optional part `server` is missing."""
    missing = [name for name in ("monailabel", "fastapi", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise ConfigurationError(
            f"dino-diffusion serve needs {', '.join(missing)}: run make setup in a clone, or "
            'pip install "dino-diffusion[server]" and pip install --no-deps monailabel==0.8.5 pydicom-seg==0.4.1.'
        )
