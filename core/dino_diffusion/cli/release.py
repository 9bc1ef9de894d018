"""From trained parts to a shipped bundle: `assemble`, `evaluate bundle`, `card`, `install`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, hush_libraries


def _folder(name: str, what: str) -> typer.models.OptionInfo:
    return typer.Option(f"--{name}", metavar="DIR", help=what)


def assemble(
    encoder: Annotated[Path, _folder("encoder", "The encoder's run, or its folder of weights.")],
    autoencoder: Annotated[Path, _folder("autoencoder", "The autoencoder's.")],
    denoiser: Annotated[Path, _folder("denoiser", "The denoiser's.")],
    readout: Annotated[Path, _folder("readout", "The readout's.")],
    latents: Annotated[Path, _folder("latents", "The denoiser run's latents, for the prior.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The bundle's folder.")],
    components: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Principal components of the token prior.", show_default="192"),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Put trained parts together as a model bundle, with a token prior and a note of where they come from."""
    console = Output(quiet)
    with console.progress("Assembling the bundle"):
        hush_libraries()
        from dino_diffusion.training.assemble import COMPONENTS
        from dino_diffusion.training.assemble import assemble as put_together

        folders = {
            "encoder": encoder,
            "autoencoder": autoencoder,
            "denoiser": denoiser,
            "readout": readout,
        }
        bundle = put_together(folders, latents, output, components or COMPONENTS)
    console.say(f"bundle {bundle.id}: {output}")
