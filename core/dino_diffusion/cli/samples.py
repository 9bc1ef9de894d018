"""`dino-diffusion samples`: the radiographs that travel with the project, made again.

They are generated from nothing but a bundle's token prior, so no patient is in them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.generate import sample
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder


def samples(
    output: options.OutputFolder,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, max=20, help="How many; the last is DICOM.")
    ] = 4,
    seed: options.Seed = 0,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Make the sample radiographs: 8-bit PNG and one DICOM DX, marked synthetic in their metadata."""
    console = Output(quiet)
    check_folder(output)
    loaded = load_bundle(bundle, device, console)
    from dino_diffusion.generation.save import save_image

    for number, item in enumerate(sample(loaded, console, count, None, seed, steps, guidance), start=1):
        path = output / f"synthetic-{number}{'.dcm' if number == count else '.png'}"
        console.say(str(save_image(item, path)))
