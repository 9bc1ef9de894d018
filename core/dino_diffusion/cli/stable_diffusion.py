"""`dino-diffusion sd ...`: concepts of Stable Diffusion 1.x and 2.x checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, hush_libraries
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    from dino_diffusion.generation.stable_diffusion.backbone import StableDiffusion
    from dino_diffusion.generation.stable_diffusion.paint import Painted
    from dino_diffusion.generation.weighted import Weighted

app = typer.Typer(
    no_args_is_help=True,
    help="Concepts of a Stable Diffusion 1.x or 2.x checkpoint: learn, paint, compose, interpolate, inpaint.",
)

Backbone = Annotated[
    str, typer.Option(metavar="PATH|HUB", help="Checkpoint folder in diffusers' layout, or a hub name.")
]
Concepts = Annotated[
    list[str],
    typer.Option(
        metavar="FILE[:WEIGHT]",
        help="An embedding (.pt, learned_embeds.safetensors, own); again for more, composed.",
    ),
]
Prompt = Annotated[str, typer.Option(help="Text around the concept, which stands at {}.")]
Scale = Annotated[float, typer.Option(min=0, max=50, metavar="G", help="How closely to follow the concepts.")]
Count = Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="Sampling steps.")]
Channels = Annotated[
    bool, typer.Option("--channels", help="Write each of the three channels (MRI: T2W, ADC, high-b) alone.")
]


@app.command()
def invert(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES",
            help="Folders, files, or CSV lists: column 'image', or t2w, adc and highb for MRI.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call the concept.")],
    backbone: Backbone,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The concept's file.", show_default="NAME.safetensors"
        ),
    ] = None,
    vectors: Annotated[int, typer.Option(min=1, max=64, metavar="K", help="How many vectors.")] = 64,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Training steps.")] = 5000,
    prompt: Prompt = "{}",
    licence: Annotated[str, typer.Option(help="Licence of the images.")] = "",
    diffusers: Annotated[
        bool, typer.Option("--diffusers", help="Also write learned_embeds.safetensors beside it.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the work here: a stopped run goes on.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn a concept as vectors in place of a word."""
    console = Output(quiet, json)
    with console.document() as document:
        target = output or Path(f"{name}.safetensors")
        check_folder(target.parent)
        from dino_diffusion.generation.stable_diffusion.channels import list_pictures
        from dino_diffusion.generation.stable_diffusion.embedding import save_learned_embeds
        from dino_diffusion.generation.stable_diffusion.invert import invert as learn

        pictures = list_pictures(images)
        loaded = _load(backbone, device, console)
        with console.progress(f"Learning from {len(pictures)} images", steps) as advance:
            done = 0

            def tell(step: int, total: int, loss: float | None) -> None:
                nonlocal done
                advance(step - done)
                done = step

            concept = learn(loaded, pictures, name, vectors, steps, seed, tell, work, prompt, licence=licence)
        written = [concept.save(target)]
        if diffusers:
            written.append(save_learned_embeds(concept, target.with_name("learned_embeds.safetensors")))
        document |= {"files": [str(path) for path in written], **concept.about()}
    console.say(*document["files"])


@app.command()
def generate(
    output: options.OutputFolder,
    concept: Concepts,
    backbone: Backbone,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 1,
    prompt: Prompt = "{}",
    guidance: Scale = 7.5,
    steps: Count = 25,
    channels: Channels = False,
    seed: options.Seed = 0,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Paint pictures that show the concepts together, each with its recipe."""
    from dino_diffusion.generation.stable_diffusion.paint import PaintSettings, paint

    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        settings = PaintSettings(prompt, guidance=guidance, steps=steps, seed=seed)
        concepts = [_weighted(text) for text in concept]
        loaded = _load(backbone, device, console)
        written: list[str] = []
        with console.progress("Painting", count * steps) as advance:
            for number in range(count):
                made = paint(loaded, concepts, settings, number, lambda _: advance(1))
                written += _write(made, output / f"sd_s{seed}_{number}", channels)
        document |= {"model": loaded.id, "files": written}
    console.say(*document["files"])


@app.command()
def strip(
    output: options.OutputFolder,
    from_: Annotated[str, typer.Option("--from", metavar="FILE", help="Where it begins.")],
    to: Annotated[str, typer.Option(metavar="FILE", help="Where it ends.")],
    backbone: Backbone,
    frames: Annotated[int, typer.Option(min=2, max=100, metavar="N", help="How many pictures.")] = 7,
    prompt: Prompt = "{}",
    guidance: Scale = 7.5,
    steps: Count = 25,
    channels: Channels = False,
    seed: options.Seed = 0,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Paint pictures from one concept to another, from the same noise."""
    from dino_diffusion.generation.stable_diffusion.embedding import load_embedding
    from dino_diffusion.generation.stable_diffusion.paint import PaintSettings, interpolate

    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        settings = PaintSettings(prompt, guidance=guidance, steps=steps, seed=seed)
        ends = load_embedding(from_), load_embedding(to)
        loaded = _load(backbone, device, console)
        with console.progress("Painting", frames * steps) as advance:
            made = interpolate(loaded, *ends, frames, settings, lambda _: advance(1))
        written = []
        for number, item in enumerate(made):
            written += _write(item, output / f"sd_strip_s{seed}_{number}", channels)
        document |= {"model": loaded.id, "files": written}
    console.say(*document["files"])


@app.command()
def inpaint(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The radiograph.")],
    mask: Annotated[Path, typer.Option(metavar="MASK", help="What to paint anew: not 0, on its grid.")],
    output: options.OutputFolder,
    concept: Concepts,
    backbone: Backbone,
    keep: Annotated[
        Path | None, typer.Option(metavar="KEEP", help="What must stay.", show_default="nothing")
    ] = None,
    strength: Annotated[float, typer.Option(metavar="S", help="Above 0 to 1: how little stays.")] = 1.0,
    candidates: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many.")] = 1,
    prompt: Prompt = "{}",
    guidance: Scale = 7.5,
    steps: Count = 25,
    seed: options.Seed = 0,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Paint a part of IMAGE anew; every pixel outside the mask keeps its very value."""
    from dino_diffusion.files.formats import stem_of
    from dino_diffusion.files.read_labels import read_labels
    from dino_diffusion.files.write_image import check_not_original
    from dino_diffusion.generation.masks import EditMask
    from dino_diffusion.generation.save_inpainted import planned, save_inpainted
    from dino_diffusion.generation.stable_diffusion.edit import inpaint_radiograph
    from dino_diffusion.generation.stable_diffusion.paint import PaintSettings
    from dino_diffusion.radiograph import Radiograph

    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        settings = PaintSettings(prompt, guidance=guidance, steps=steps, seed=seed)
        radiograph = Radiograph.read(image)
        kept = read_labels(keep, radiograph) if keep else None
        edit = EditMask.of(radiograph, read_labels(mask, radiograph), kept)
        concepts = [_weighted(text) for text in concept]
        paths = [output / f"{stem_of(image)}_c{number}" for number in range(candidates)]
        for target in (file for path in paths for file in planned(radiograph, path)):
            check_not_original(target, [path for path in (image, mask, keep) if path])
        loaded = _load(backbone, device, console)
        written: list[str] = []
        with console.progress("Painting") as advance:
            for number, path in enumerate(paths):
                made = inpaint_radiograph(
                    loaded, radiograph, edit, concepts, settings, strength, number=number,
                    callback=lambda _: advance(1),
                )  # fmt: skip
                written += [str(file) for file in save_inpainted(made, path)]
        document |= {"model": loaded.id, "files": written}
    console.say(*document["files"])


def _load(name: str, device: str | None, console: Output) -> StableDiffusion:
    with console.progress("Loading the checkpoint"):
        hush_libraries()
        from dino_diffusion.device import choose_device
        from dino_diffusion.generation.stable_diffusion.backbone import StableDiffusion

        return StableDiffusion.from_pretrained(name, choose_device(device))


def _weighted(text: str) -> Weighted:
    from dino_diffusion.generation.library import split_weight
    from dino_diffusion.generation.stable_diffusion.embedding import load_embedding

    name, weight = split_weight(text)
    return load_embedding(name), weight


def _write(item: Painted, path: Path, channels: bool) -> list[str]:
    """A grey picture, or one a channel, and the recipe beside each."""
    from dino_diffusion.generation.sampled import Synthetic
    from dino_diffusion.generation.save import save_synthetic

    pictures: dict[str, Any] = {"": item.pixels.mean(0)}
    if channels:
        pictures = {f"_{number}": channel for number, channel in enumerate(item.pixels, start=1)}
    return [
        str(file)
        for ending, pixels in pictures.items()
        for file in save_synthetic(Synthetic(pixels, item.recipe), path.with_name(f"{path.name}{ending}.png"))
    ]
