"""`dino-diffusion regions`: what belongs together in a radiograph, at five granularities."""

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
    import numpy as np

    from dino_diffusion.radiograph import Labelmap, Radiograph
    from dino_diffusion.segmentation.regions import Regions

GRANULARITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
TILE = 420


def regions(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A radiograph.")],
    output: options.OutputFolder,
    labels: Annotated[
        bool, typer.Option("--labels", help="Also write the regions as labelmaps, numbered from 16.")
    ] = False,
    format: Annotated[
        options.LabelmapFormat | None,
        typer.Option(help="Format of the labelmaps.", show_default="png, for DICOM dcmseg"),
    ] = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Divide a radiograph into regions, from coarse to fine, without any label; nothing is named.

    Writes DIR/<stem>_regions.png, a picture of five granularities, and with --labels
    DIR/<stem>_regions_<percent>.<ext>, one labelmap a granularity on the radiograph's own pixel grid.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        from dino_diffusion.cli.segment_desk import labelmap_path
        from dino_diffusion.files.formats import stem_of
        from dino_diffusion.files.write_labelmap import write_labelmap
        from dino_diffusion.pictures import save_png
        from dino_diffusion.radiograph import Radiograph
        from dino_diffusion.segmentation.regions import regions as find_regions

        radiograph = Radiograph.read(image)
        loaded = load_bundle(bundle, device, console)
        started = time.perf_counter()
        with console.progress("Finding regions"):
            found = find_regions(loaded, radiograph)
        seconds = time.perf_counter() - started
        chosen = format.value if format else None
        levels: list[dict[str, Any]] = []
        for granularity in GRANULARITIES:
            level: dict[str, Any] = {"granularity": granularity, "regions": found.count(granularity)}
            if labels:
                name = f"{stem_of(image)}_regions_{granularity:.0%}".removesuffix("%")
                target = labelmap_path(radiograph.source, output, chosen, name)
                write_labelmap(labelmap(found, radiograph, granularity), target, chosen)
                level["labelmap"] = str(target)
            levels.append(level)
        picture = output / f"{stem_of(image)}_regions.png"
        save_png(sheet(found, radiograph), picture)
        document |= {
            "bundle": loaded.id,
            "device": str(loaded.device),
            "input": str(image),
            "picture": str(picture),
            "shape": list(radiograph.shape),
            "granularities": levels,
            "seconds": round(seconds, 4),
        }
    counts = ", ".join(str(level["regions"]) for level in levels)
    console.say(f"{image} -> {picture}", f"    {counts} regions in {seconds:.2f} s on {loaded.device}")
    console.say(*(f"    labelmap: {level['labelmap']}" for level in levels if labels))


def labelmap(found: Regions, radiograph: Radiograph, granularity: float) -> Labelmap:
    """The regions as segments without a fixed meaning; lower values stand for lungs and zones."""
    from dino_diffusion.codes import FIRST_LEARNT
    from dino_diffusion.radiograph import Labelmap

    names = {FIRST_LEARNT + k: f"region {k + 1}" for k in range(found.count(granularity))}
    return Labelmap(found.labels(granularity) + (FIRST_LEARNT - 1), radiograph, names)


def sheet(found: Regions, radiograph: Radiograph) -> np.ndarray:
    """The radiograph and its regions at five granularities."""
    from dino_diffusion.pictures import borders, contact_sheet

    pictures = [radiograph.pixels]
    captions = ["radiograph"]
    for granularity in GRANULARITIES:
        # Twice the tile's size: the sheet smooths the lines.
        pictures.append(borders(radiograph.pixels, found.labels(granularity), 2 * TILE))
        captions.append(f"granularity {granularity:g}: {found.count(granularity)} regions")
    return contact_sheet(pictures, captions, columns=3, tile=TILE)
