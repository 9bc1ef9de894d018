"""`dino-diffusion strip`: one radiograph from one concept to another, with what changes along it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    from dino_diffusion.generation.strip import Strip
    from dino_diffusion.radiograph import Radiograph


def strip(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The radiograph to change.")],
    output: options.OutputFolder,
    from_: Annotated[
        str, typer.Option("--from", metavar="CONCEPT", help="Where the strip begins: a name or a file.")
    ] = "healthy",
    to: Annotated[str, typer.Option(metavar="CONCEPT", help="Where it ends.")] = "effusion",
    frames: Annotated[int, typer.Option(min=2, max=100, metavar="N", help="How many pictures.")] = 7,
    strength: Annotated[
        float | None,
        typer.Option(metavar="S", help="How much noise to start from, above 0 up to 1.", show_default="0.9"),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="G",
            help="How far to go toward the concepts.",
            show_default="16.0, or 4.0 for concepts without an opposite",
        ),
    ] = None,
    seed: options.Seed = 0,
    steps: options.StepsInPlace = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Show the same patient from one concept to another, and measure what changes along the strip.

    Writes DIR/<stem>_strip_<k>.png with recipes, and all of them side by side in DIR/<stem>_strip.png.
    Measured are the lungs' mean grey (opacity) and the heart's width over the chest's.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        from dino_diffusion.files.formats import stem_of
        from dino_diffusion.files.write_image import check_not_original
        from dino_diffusion.generation import strip as library
        from dino_diffusion.generation.library import find_concept
        from dino_diffusion.generation.save import save_synthetic
        from dino_diffusion.radiograph import Radiograph

        radiograph = Radiograph.read(image)
        concepts = find_concept(from_), find_concept(to)
        given: dict[str, Any] = {"strength": strength, "guidance": guidance, "steps": steps}
        said = {name: value for name, value in given.items() if value is not None}
        settings = library.StripSettings(frames, seed=seed, **said)
        loaded = load_bundle(bundle, device, console)
        started = time.perf_counter()
        path = library.StripPath.of(loaded, radiograph, *concepts, settings)
        with console.progress("Painting", frames * path.steps) as advance:
            made = library.strip(path, lambda _: advance(1))
        seconds = time.perf_counter() - started
        stem = f"{stem_of(image)}_strip"
        written = []
        for number, frame in enumerate(made.frames):
            target = output / f"{stem}_{number}.png"
            check_not_original(target, [image])
            saved, recipe = save_synthetic(frame, target)
            written.append(
                {"image": str(saved), "recipe": str(recipe), "share": made.shares[number]}
                | {name: values[number] for name, values in made.quantities.items()}
            )
        sheet = output / f"{stem}.png"
        check_not_original(sheet, [image])
        _sheet(radiograph, made, from_, to, sheet)
        document |= {
            "bundle": loaded.id,
            "device": str(loaded.device),
            "from": from_,
            "to": to,
            "frames": written,
            "trends": made.trends,
            "sheet": str(sheet),
            "seconds": round(seconds, 3),
        }
    console.say(*describe(document))


def describe(document: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    names = list(document["trends"])
    lines = [f"{document['to'] + ' share':<24}" + "".join(f"{name.replace('_', ' '):>24}" for name in names)]
    for frame in document["frames"]:
        lines.append(f"{frame['share']:<24.2f}" + "".join(f"{_number(frame[name]):>24}" for name in names))
    lines.append(
        f"{'rank correlation':<24}" + "".join(f"{_number(document['trends'][name]):>24}" for name in names)
    )
    return [
        *lines,
        f"strip: {document['sheet']}",
        f"{len(document['frames'])} frames in {document['seconds']:.1f} s",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _sheet(radiograph: Radiograph, made: Strip, start: str, end: str, path: Path) -> None:
    from dino_diffusion.pictures import contact_sheet, save_png
    from dino_diffusion.view import GreyScale

    pictures = [GreyScale.of(radiograph.pixels).apply(radiograph.pixels)]
    pictures += [frame.pixels for frame in made.frames]
    captions = ["original", *(f"synthetic, {share:.0%} {end}" for share in made.shares)]
    title = f"From {start} to {end}, made by dino-diffusion"
    save_png(contact_sheet(pictures, captions, columns=len(pictures), title=title), path)
