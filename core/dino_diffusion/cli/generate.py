"""`dino-diffusion generate`: synthetic radiographs, each with its recipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    from dino_diffusion.generation.variants import Synthetic
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Radiograph

SHEET_ENDING = "_sheet.png"
ON_THE_SHEET = 36
AT_ONCE = 8
"""Pictures made before they are written: what is done survives an interruption, memory stays bounded."""


def generate(
    output: options.OutputFolder,
    like: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Radiograph whose variants to make.", show_default="new ones"),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=100_000, help="How many.")] = 1,
    seed: options.Seed = 0,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Generate radiographs: new ones, or variants of IMAGE.

    Writes DIR/generated_s<seed>_<k>.png (variants: <stem>_s<seed>_<k>.png), its .recipe.json, and a contact
    sheet. The same seed has the same names and replaces its own earlier pictures.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        from dino_diffusion.files.inputs import output_names

        original = _read(like)
        loaded = load_bundle(bundle, device, console)
        started = time.perf_counter()
        prefix = f"{output_names([like])[0] if like else 'generated'}_s{seed}"
        images, shown = [], []
        for k, item in enumerate(sample(loaded, console, count, original, seed, steps, guidance)):
            images.append(write_synthetic(item, output / f"{prefix}_{k}.png"))
            shown += [item] * (k < ON_THE_SHEET)
        seconds = time.perf_counter() - started
        sheet = _contact_sheet(shown, original, output / f"{prefix}{SHEET_ENDING}")
        document |= {
            "bundle": loaded.id,
            "device": str(loaded.device),
            "images": images,
            "contact_sheet": str(sheet),
            "seconds": round(seconds, 3),
        }
    for image in images:
        console.say(image["image"])
    console.say(f"contact sheet: {sheet}", f"{count} synthetic in {seconds:.1f} s on {loaded.device}")


def sample(
    bundle: ModelBundle,
    console: Output,
    count: int,
    like: Radiograph | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
) -> Iterator[Synthetic]:
    """`generate` of the library under a progress bar, a few at a time; None takes the library's default."""
    from dino_diffusion.generation import variants

    steps = variants.DEFAULT_STEPS if steps is None else steps
    guidance = variants.DEFAULT_GUIDANCE if guidance is None else guidance
    with console.progress("Generating", count * steps) as advance:
        # A step counts once an image: the library may split the batch when memory is short.
        for first in range(0, count, AT_ONCE):
            yield from variants.generate(
                bundle,
                min(AT_ONCE, count - first),
                like,
                seed,
                steps,
                guidance,
                callback=lambda step: advance(len(step.estimate)),
                first=first,
            )


def write_synthetic(item: Synthetic, path: Path) -> dict[str, Any]:
    """8-bit PNG that says in its metadata what it is, and the recipe beside it."""
    from dino_diffusion.files.atomic import atomic_path
    from dino_diffusion.files.write_image import write_image
    from dino_diffusion.pictures import to_uint8
    from dino_diffusion.radiograph import Radiograph

    radiograph = Radiograph.from_array(to_uint8(item.pixels), name=path.stem)
    written = write_image(radiograph, radiograph.stored, path, synthetic=asdict(item.recipe))
    recipe = path.with_suffix(".recipe.json")
    with atomic_path(recipe) as temporary:
        temporary.write_text(item.recipe.to_json() + "\n")
    return {"image": str(written), "recipe": str(recipe), **item.recipe.parameters}


def _read(like: Path | None) -> Radiograph | None:
    if like is None:
        return None
    from dino_diffusion.radiograph import Radiograph

    return Radiograph.read(like)


def _contact_sheet(made: list[Synthetic], original: Radiograph | None, path: Path) -> Path:
    """The pictures, the original before them."""
    from dino_diffusion.pictures import contact_sheet, save_png

    pictures = [item.pixels for item in made]
    captions = [f"synthetic {item.recipe.parameters['index']}" for item in made]
    if original is not None:
        pictures, captions = [original.pixels, *pictures], ["original", *captions]
    return save_png(contact_sheet(pictures, captions, title="Synthetic, made by dino-diffusion"), path)
