"""`dino-diffusion generate`: synthetic radiographs, each with its recipe."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    from dino_diffusion.generation.embedding import ImageClass
    from dino_diffusion.generation.variants import Synthetic, Variation
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
    and_: Annotated[
        list[Path] | None,
        typer.Option("--and", metavar="IMAGE", help="Another one to blend in; again for more."),
    ] = None,
    mix: Annotated[
        list[float] | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Share of each --and, in order.", show_default="all alike"
        ),
    ] = None,
    strength: Annotated[
        float,
        typer.Option(metavar="S", help="Start from IMAGE under this much noise, above 0; 1 is noise alone."),
    ] = 1.0,
    jitter: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="J", help="How far each variant strays; 1 as far as any other."),
    ] = 0.0,
    class_of: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|CSV", help="Images of a class, to draw new members of.", show_default="any"
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=100_000, help="How many.")] = 1,
    format: Annotated[options.ImageFormat, typer.Option(help="Format of the images.")] = (
        options.ImageFormat.png
    ),
    seed: options.Seed = 0,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Generate radiographs: new ones, variants of IMAGE, blends of several, or members of a class.

    Writes DIR/generated_s<seed>_<k>.<ext> (variants: <stem>_s<seed>_<k>.<ext>), its .recipe.json, and a
    contact sheet. The same seed has the same names and replaces its own earlier pictures.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        from dino_diffusion.files.formats import stem_of
        from dino_diffusion.files.image_list import list_images
        from dino_diffusion.files.write_image import check_not_original
        from dino_diffusion.generation.save import ENDINGS
        from dino_diffusion.generation.variants import Variation
        from dino_diffusion.radiograph import Radiograph

        original = Radiograph.read(like) if like else None
        others = tuple(map(Radiograph.read, and_ or []))
        loaded = load_bundle(bundle, device, console)
        files = list_images([class_of]).files if class_of else ()
        variation = Variation(
            original, others, tuple(mix or ()), strength, jitter, _class(loaded, console, files)
        )
        originals = [path for path in (like, *(and_ or []), *files) if path]
        started = time.perf_counter()
        prefix = f"{stem_of(like) if like else 'generated'}_s{seed}"
        paths = [output / f"{prefix}_{k}{ENDINGS[format.value]}" for k in range(count)]
        sheet = output / f"{prefix}{SHEET_ENDING}"
        for path in (*paths, sheet):
            check_not_original(path, originals)
        images: list[dict[str, Any]] = []
        shown: list[Synthetic] = []
        made = sample(loaded, console, count, variation, seed, steps, guidance)
        for path, item in zip(paths, made, strict=True):
            images.append(_write(item, path))
            shown += [item] * (len(shown) < ON_THE_SHEET)
        seconds = time.perf_counter() - started
        _contact_sheet(variation, shown, sheet)
        document |= {
            "bundle": loaded.id,
            "device": str(loaded.device),
            "images": images,
            "contact_sheet": str(sheet),
            "nearest_checked": loaded.training_index is not None,
            "seconds": round(seconds, 3),
        }
    for image in images:
        console.say(image["image"], *(f"    {line}" for line in image["warnings"]))
    console.say(f"contact sheet: {sheet}", f"{count} synthetic in {seconds:.1f} s on {loaded.device}")
    if loaded.training_index is None and not quiet:
        complain("Not compared with the training images, because this bundle carries no index of them.")


def sample(
    bundle: ModelBundle,
    console: Output,
    count: int,
    like: Variation | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
) -> Iterator[Synthetic]:
    """`generate` of the library under a progress bar, a few at a time; None takes the library's default."""
    from dino_diffusion.generation import variants

    steps = variants.DEFAULT_STEPS if steps is None else steps
    guidance = variants.DEFAULT_GUIDANCE if guidance is None else guidance
    with console.progress("Generating", count * variants.steps_of(bundle, like, steps)) as advance:
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


def _class(bundle: ModelBundle, console: Output, files: Sequence[Path]) -> ImageClass | None:
    if not files:
        return None
    from dino_diffusion.generation.embedding import ImageClass
    from dino_diffusion.radiograph import Radiograph

    with console.progress("Reading the class", len(files)) as advance:

        def read() -> Iterator[Radiograph]:
            for file in files:
                yield Radiograph.read(file)
                advance(1)

        return ImageClass.of(bundle, read())


def _write(item: Synthetic, path: Path) -> dict[str, Any]:
    """Image and recipe; the entry for the JSON document."""
    from dino_diffusion.generation.nearest import warnings_of
    from dino_diffusion.generation.save import save_synthetic

    image, recipe = save_synthetic(item, path)
    about = {"checks": item.recipe.checks, "warnings": warnings_of(item.recipe)}
    return {"image": str(image), "recipe": str(recipe), **item.recipe.parameters, **about}


def _contact_sheet(variation: Variation, made: list[Synthetic], path: Path) -> None:
    """The pictures, the originals before them, all in the model's grey."""
    from dino_diffusion.pictures import contact_sheet, save_png
    from dino_diffusion.view import GreyScale

    originals = variation.radiographs
    pictures = [GreyScale.of(radiograph.pixels).apply(radiograph.pixels) for radiograph in originals]
    captions = [f"original {number}" if number > 1 else "original" for number in range(1, len(originals) + 1)]
    pictures += [item.pixels for item in made]
    captions += [f"synthetic {item.recipe.parameters['index']}" for item in made]
    save_png(contact_sheet(pictures, captions, title="Synthetic, made by dino-diffusion"), path)
