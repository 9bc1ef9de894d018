"""The command `dino-diffusion`: one file a sub-command. Heavy imports wait until a command runs."""

from dino_diffusion.cli.app import main

__all__ = ["main"]
