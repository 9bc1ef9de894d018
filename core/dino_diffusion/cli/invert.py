"""`dino-diffusion invert`: a concept learnt from images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder


def invert(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES", help="What shows the concept: folders, files, or CSV lists (column 'image')."
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call the concept.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The concept's file.", show_default="NAME.safetensors"
        ),
    ] = None,
    vectors: Annotated[int, typer.Option(min=1, max=64, metavar="K", help="How many vectors to learn.")] = 8,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, metavar="N", help="Training steps.", show_default="150"),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Which rows of a list to take; again for more conditions."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the images.", show_default="the list's column 'licence'")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Where the images come from.", show_default="the list's column 'source'"),
    ] = None,
    description: Annotated[str, typer.Option(help="What the concept shows, in a sentence.")] = "",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONCEPT",
            help="Its opposite, such as healthy: painted in place, only what differs from it is exaggerated.",
            show_default="nothing",
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the work here, so that a stopped run goes on with the same command."
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn a concept: what the images have in common, as a small file for generate, inpaint and strip.

    Nothing of the model changes. About 100 images are enough; with very few, anatomy suffers.
    """
    console = Output(quiet, json)
    with console.document() as document:
        target = output or Path(f"{name}.safetensors")
        check_folder(target.parent)
        listed = _listed(images, where or [])
        loaded = load_bundle(bundle, device, console)
        from dino_diffusion.generation import invert as library
        from dino_diffusion.generation.library import find_concept

        others = [find_concept(other) for other in against or []]
        for other in others:
            other.check(loaded)
        steps = library.DEFAULT_STEPS if steps is None else steps
        started = time.perf_counter()
        with console.progress(f"Learning from {len(listed.files)} images", steps) as advance:
            done = 0

            def tell(step: int, total: int, loss: float | None) -> None:
                nonlocal done
                advance(step - done)
                done = step

            concept = library.invert(
                loaded,
                listed.files,
                name,
                vectors,
                steps,
                seed,
                tell,
                work,
                licence=licence if licence is not None else "; ".join(listed.licences),
                source=source if source is not None else "; ".join(listed.sources),
                description=description,
            )
        if others:
            concept = concept.opposed_to(others)
        concept.save(target)
        document |= {"concept": str(target), "bytes": target.stat().st_size, **concept.about()}
        document["seconds"] = round(time.perf_counter() - started, 3)
    console.say(*describe(document))


def describe(document: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    figures = document["settings"]["figures"]
    return [
        f"{document['concept']} ({document['bytes'] / 1000:.1f} kB): '{document['name']}', "
        f"{document['settings']['vectors']} vectors from {document['images']} images in "
        f"{document['seconds']:.0f} s",
        f"    flow loss of these images: {figures['flow']:.4f}, with their class mean "
        f"{figures['flow_class_mean']:.4f}",
    ]


def _listed(images: list[Path], where: list[str]) -> Any:
    from dino_diffusion.errors import ConfigurationError
    from dino_diffusion.files.image_list import list_images

    conditions = {}
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals or not column:
            raise ConfigurationError(
                f"--where {condition} is no condition; write COLUMN=VALUE, such as finding=Effusion."
            )
        conditions[column] = value
    return list_images(images, conditions)
