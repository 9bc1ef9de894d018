"""`dino-diffusion neighbours`: which radiographs are most like this one?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Radiograph


def neighbours(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The radiograph to compare.")],
    among: Annotated[
        list[Path], typer.Argument(metavar="AMONG", help="Radiographs, folders, or CSV lists of some.")
    ],
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="How many to name.")] = 5,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Name the radiographs AMONG others that the model's encoder finds most like IMAGE.

    Also how close IMAGE comes to a training image, where the bundle carries an index of them.
    """
    from dino_diffusion.files.image_list import list_images

    console = Output(quiet, json)
    with console.document() as document:
        from dino_diffusion.radiograph import Radiograph

        files = [file for file in list_images(among).files if file.resolve() != image.resolve()]
        own = Radiograph.read(image)
        loaded = load_bundle(bundle, device, console)
        from dino_diffusion.generation.nearest import nearest_training_image
        from dino_diffusion.generation.nearest import neighbours as find

        with console.progress("Comparing", len(files)) as advance:

            def read() -> Iterator[Radiograph]:
                for file in files:
                    yield Radiograph.read(file)
                    advance(1)

            found = find(loaded, own, read(), count)
        nearest = nearest_training_image(loaded, own.pixels)
        document |= {
            "image": str(image),
            "bundle": loaded.id,
            "compared": len(files),
            "neighbours": found,
            "nearest_training_image": nearest and asdict(nearest),
        }
    console.say(*(f"{entry['similarity']:.3f}  {entry['name']}" for entry in found))
    if nearest is not None:
        console.say(nearest.describe())
