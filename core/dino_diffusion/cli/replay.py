"""`dino-diffusion replay`: a synthetic image made again from its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder
from dino_diffusion.errors import ConfigurationError

ENDING = "_replay"


def replay(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A .recipe.json, or an image that carries its recipe.")
    ],
    output: options.OutputFolder,
    input: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="A file that the recipe was made from; again for more.",
            show_default="none",
        ),
    ] = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Make a synthetic image again, as DIR/<stem>_replay.<ext>: the same pixels on the same device.

    Exit code 1 where the pixels are others than the recipe's.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        files = named_files(input or [])
        from dino_diffusion.device import device_name
        from dino_diffusion.files.formats import suffix_of
        from dino_diffusion.files.write_image import check_not_original
        from dino_diffusion.generation import replay as library
        from dino_diffusion.generation.recipe import Recipe, stem_of_recipe

        asked = Recipe.read(recipe)
        operation = library.operation_of(asked)
        loaded = load_bundle(bundle, device, console)
        path = output / f"{stem_of_recipe(recipe)}{ENDING}{suffix_of(recipe)}"
        check_not_original(path, [recipe, *files.values()])
        with console.progress(f"Replaying {asked.operation}"):
            made = library.replay(asked, loaded, files)
        written = operation.write(made, path)
        same = library.is_same(made, asked)
        document |= {
            "operation": asked.operation,
            "files": [str(file) for file in written],
            "bundle": loaded.id,
            "device": str(loaded.device),
            "same_pixels": same,
        }
    console.say(*(str(file) for file in written))
    if same is False:
        complain(
            f"The pixels are not those of the recipe, which was made on {asked.device or 'another device'}; "
            f"this is {device_name(loaded.device)}."
        )
        raise typer.Exit(1)
    console.say("the very pixels of the recipe" if same else "the recipe does not say which pixels it gave")


def named_files(texts: list[str]) -> dict[str, Path]:
    """`NAME=FILE` by name. Raises ConfigurationError for anything else, and for a name given twice."""
    named: dict[str, Path] = {}
    for text in texts:
        name, separator, file = text.partition("=")
        if not (name and separator and file) or name in named:
            raise ConfigurationError(
                f"'{text}' is no further input; write NAME=FILE, such as like=scan.dcm, each name once."
            )
        named[name] = Path(file)
    return named
