"""`dino-diffusion twin`: the same chest with healthy lungs, and where it differs."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dino_diffusion.cli import inpaint, options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    from dino_diffusion.generation.twin import Region


def twin(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The radiograph.")],
    output: options.OutputFolder,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="MASK", help="What to make healthy: not 0.", show_default="both lungs"),
    ] = None,
    keep: inpaint.Keep = None,
    concept: Annotated[
        str, typer.Option(metavar="NAME", help="What healthy is: a shipped concept or a file.")
    ] = "healthy",
    strength: Annotated[
        float | None,
        typer.Option(metavar="S", help="Above 0 to 1: how little of it stays.", show_default="0.9"),
    ] = None,
    feather: inpaint.Feather = None,
    candidates: Annotated[
        int, typer.Option(min=2, max=64, metavar="N", help="Twins that are compared, to tell chance apart.")
    ] = 4,
    burn_in: inpaint.BurnIn = False,
    seed: options.Seed = 0,
    steps: options.StepsInPlace = None,
    guidance: options.InPlace = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Paint both lungs of IMAGE as healthy ones, and mark where it differs from that twin beyond chance.

    Writes DIR/<stem>_twin.<ext> with its _mask and .recipe.json, the difference map
    <stem>_twin_difference.png, the candidate regions <stem>_twin_regions.<ext> on the image's own pixel grid
    where there are some, and a contact sheet.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        from dino_diffusion.files.formats import stem_of
        from dino_diffusion.files.read_labels import read_labels
        from dino_diffusion.files.write_image import check_not_original
        from dino_diffusion.generation import twin as library
        from dino_diffusion.generation.library import find_concept
        from dino_diffusion.generation.nearest import warnings_of
        from dino_diffusion.generation.save_twin import TwinFiles, save_twin
        from dino_diffusion.radiograph import Radiograph

        settings = library.twin_settings(
            strength=strength, feather_mm=feather, seed=seed, steps=steps, guidance=guidance
        )
        radiograph = Radiograph.read(image)
        marked, kept = (None if path is None else read_labels(path, radiograph) != 0 for path in (mask, keep))
        healthy = find_concept(concept)
        files = TwinFiles.of(radiograph, output, stem_of(image))
        for target in vars(files).values():
            check_not_original(target, [path for path in (image, mask, keep) if path])
        loaded = load_bundle(bundle, device, console)
        started = time.perf_counter()
        with console.progress("Looking at the image"):
            shared = library.prepare(loaded, radiograph, healthy, marked, kept, settings)
        found = library.compare(shared, list(inpaint.painted(shared, console, candidates)))
        seconds = time.perf_counter() - started
        written = save_twin(found, files, burn_in)
        warnings = warnings_of(found.candidates[0].recipe)
        document |= {
            "bundle": loaded.id,
            "device": str(loaded.device),
            **{name: str(path) if path in written else None for name, path in vars(files).items()},
            "regions_found": [asdict(region) | {"name": region.name} for region in found.regions],
            "warnings": warnings,
            "pixels_outside_identical": found.candidates[0].untouched,
            "burned_in": burn_in,
            "seconds": round(seconds, 3),
        }
    console.say(*(str(path) for path in written), *(f"    {line}" for line in warnings))
    regions = [describe(region, radiograph.spacing_mm is not None) for region in found.regions]
    console.say(*(regions or ["no region differs from the twin by more than chance"]))
    console.say(
        inpaint.untouched_line(found.candidates[0], burn_in),
        f"{candidates} twins in {seconds:.1f} s on {loaded.device}",
    )


def describe(region: Region, measured: bool) -> str:
    """One line for a person; without a known pixel size the area is an estimate."""
    area = f"{'' if measured else 'about '}{region.area_mm2 / 100:.1f} cm²"
    return (
        f"    {region.name}: {area}, {region.difference:+.2f} of the grey range, "
        f"{abs(region.deviations):.1f} deviations"
    )
