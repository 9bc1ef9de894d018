"""`dino-diffusion inpaint`: a part of a radiograph painted anew, in place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    import numpy as np

    from dino_diffusion.generation.masks import EditMask
    from dino_diffusion.generation.painting import Inpainted, Inpainting, InpaintSettings
    from dino_diffusion.radiograph import Radiograph

SHEET_ENDING = "_sheet.png"
ON_THE_SHEET = 7
AT_ONCE = 8
"""Candidates made before they are written: what is done survives an interruption, memory stays bounded."""


class Texture(StrEnum):
    """What `--texture` knows; see `generation.blend`."""

    adding = "add"
    replacing = "replace"


Mask = Annotated[
    Path, typer.Option(metavar="MASK", help="What to paint anew: not 0, on the image's own pixel grid.")
]
Keep = Annotated[
    Path | None,
    typer.Option(metavar="KEEP", help="What must stay inside it, such as a tube.", show_default="nothing"),
]
Strength = Annotated[
    float | None,
    typer.Option(metavar="S", help="Above 0 to 1: how little stays of what was there.", show_default="1.0"),
]
Feather = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1000,
        metavar="MM",
        help="Depth inside the mask over which the change sets in.",
        show_default="10",
    ),
]
Candidates = Annotated[int, typer.Option("--candidates", min=1, max=1000, metavar="N", help="How many.")]
BurnIn = Annotated[
    bool, typer.Option("--burn-in", help="Stamp SYNTHETIC into the pixels, after they have been checked.")
]


def inpaint(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The radiograph.")],
    mask: Mask,
    output: options.OutputFolder,
    keep: Keep = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:WEIGHT]",
            help="What to paint: a shipped concept or a file; again for more, composed.",
            show_default="what the surroundings suggest",
        ),
    ] = None,
    strength: Strength = None,
    feather: Feather = None,
    texture: Annotated[
        Texture,
        typer.Option(help="Add the change and keep the image's own grain, or replace what was there."),
    ] = Texture.adding,
    keep_level: Annotated[
        bool,
        typer.Option("--keep-level", help="Keep the masked part as bright as it is on the whole."),
    ] = False,
    candidates: Candidates = 1,
    burn_in: BurnIn = False,
    seed: options.Seed = 0,
    steps: options.StepsInPlace = None,
    guidance: options.InPlace = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Paint a part of IMAGE anew; every pixel outside the mask keeps its very value.

    Writes DIR/<stem>_c<k>.<ext>, its ground truth <stem>_c<k>_mask.<ext>, <stem>_c<k>.recipe.json, and a
    contact sheet. A mask of the whole image is image to image.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        from dino_diffusion.files.formats import stem_of
        from dino_diffusion.files.write_image import check_not_original
        from dino_diffusion.generation.library import find_weighted
        from dino_diffusion.generation.painting import Inpainting
        from dino_diffusion.generation.save_inpainted import planned, save_inpainted
        from dino_diffusion.radiograph import Radiograph

        settings = chosen_settings(
            strength=strength,
            feather_mm=feather,
            texture=texture.value,
            keep_level=keep_level,
            seed=seed,
            steps=steps,
            guidance=guidance,
        )
        radiograph = Radiograph.read(image)
        edit = read_masks(radiograph, mask, keep)
        concepts = [find_weighted(text) for text in concept or []]
        sheet = output / f"{stem_of(image)}{SHEET_ENDING}"
        paths = [output / f"{stem_of(image)}_c{k}" for k in range(candidates)]
        originals = [path for path in (image, mask, keep) if path]
        for target in (sheet, *(file for path in paths for file in planned(radiograph, path))):
            check_not_original(target, originals)
        loaded = load_bundle(bundle, device, console)
        started = time.perf_counter()
        made: list[dict[str, Any]] = []
        shown: list[Inpainted] = []
        with console.progress("Looking at the image"):
            shared = Inpainting.of(loaded, radiograph, edit, concepts, settings)
        for path, item in zip(paths, painted(shared, console, candidates), strict=True):
            made.append(entry(item, save_inpainted(item, path, burn_in)))
            shown += [item] * (len(shown) < ON_THE_SHEET)
        seconds = time.perf_counter() - started
        contact_sheet(shared, shown, sheet)
        document |= {
            "bundle": loaded.id,
            "device": str(loaded.device),
            "candidates": made,
            "contact_sheet": str(sheet),
            "pixels_outside_identical": shown[0].untouched,
            "burned_in": burn_in,
            "seconds": round(seconds, 3),
        }
    for candidate in made:
        console.say(candidate["image"], *(f"    {line}" for line in candidate["warnings"]))
    console.say(f"contact sheet: {sheet}")
    console.say(untouched_line(shown[0], burn_in), f"{candidates} in {seconds:.1f} s on {loaded.device}")


def chosen_settings(**settings: Any) -> InpaintSettings:
    """The library's defaults where nothing was asked. Raises ConfigurationError."""
    from dino_diffusion.generation.painting import InpaintSettings

    return InpaintSettings(**{name: value for name, value in settings.items() if value is not None})


def read_masks(radiograph: Radiograph, mask: Path, keep: Path | None) -> EditMask:
    """Raises RadiographError, one sentence, for masks that make no sense."""
    from dino_diffusion.files.read_labels import read_labels
    from dino_diffusion.generation.masks import EditMask

    return EditMask.of(
        radiograph,
        read_labels(mask, radiograph) != 0,
        None if keep is None else read_labels(keep, radiograph) != 0,
    )


def painted(shared: Inpainting, console: Output, count: int) -> Iterator[Inpainted]:
    """Candidates under a progress bar, a few at a time."""
    with console.progress("Painting", count * shared.steps) as advance:
        for first in range(0, count, AT_ONCE):
            yield from shared.candidates(
                min(AT_ONCE, count - first), lambda step: advance(len(step.estimate)), first
            )


def entry(item: Inpainted, files: list[Path]) -> dict[str, Any]:
    """One candidate for the JSON document."""
    from dino_diffusion.generation.nearest import warnings_of

    names = dict(zip(("image", "mask", "recipe"), map(str, files), strict=True))
    about = {"checks": item.recipe.checks, "warnings": warnings_of(item.recipe)}
    return {**names, **item.recipe.parameters, **about}


def untouched_line(item: Inpainted, burn_in: bool) -> str:
    """What was checked, for a person."""
    line = f"outside the mask all {item.untouched:,} pixels are identical to the image's, checked"
    return f"{line}; then SYNTHETIC was stamped over the lower border" if burn_in else line


def contact_sheet(shared: Inpainting, made: list[Inpainted], path: Path) -> None:
    """Source and candidates, whole and, where the mask is small, close up."""
    from dino_diffusion.pictures import contact_sheet, save_png

    source = shared.radiograph.pixels
    outlined = _outlined(source, shared.mask.inside)
    captions = ["source", *(f"synthetic {item.recipe.parameters['index']}" for item in made)]
    pictures = [outlined, *(item.pixels for item in made)]
    region = shared.window.region
    if shared.window.box.side < shared.window.square.side:
        pictures += [outlined[region], *(item.pixels[region] for item in made)]
        captions *= 2
    save_png(
        contact_sheet(pictures, captions, len(made) + 1, 384, "Inpainted by dino-diffusion"),
        path,
    )


def _outlined(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The radiograph with the mask over it, in its own size; `(H, W, 3)`."""
    import numpy as np

    from dino_diffusion.codes import FIRST_LEARNT
    from dino_diffusion.pictures import overlay

    labels = np.where(inside, FIRST_LEARNT, 0).astype(np.uint8)
    return overlay(pixels, labels, longest_side=None, legend=False)
