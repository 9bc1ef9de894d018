"""`dino-diffusion learn`: a structure from one corrected example, as a small file for `segment`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder
from dino_diffusion.errors import ConfigurationError

if TYPE_CHECKING:
    from dino_diffusion.segmentation.learn import Example

ENDING = ".safetensors"


def learn(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE MASK [IMAGE MASK]...",
            help="A radiograph and its labelmap, on the same pixels; more such pairs teach better. Beside "
            "one that shows the structure, an empty labelmap says that it is not there.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="NAME.safetensors", help="The embedding's file.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="L[=NAME]",
            help="Label of the mask to learn, and what to call it; again for more.",
            show_default="all of the mask's",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call the structure.", show_default="the file's name"),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Refine what was learnt before.")
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn a structure from IMAGE and MASK, for `segment --embedding`. The model itself stays as it is.

    A mask with several labels teaches all of them. A name such as "left clavicle" also sets its code.
    """
    console = Output(quiet, json)
    with console.document() as document:
        if output.suffix.lower() != ENDING:
            raise ConfigurationError(f"{output}: name a file that ends in {ENDING} with -o.")
        check_folder(output.parent)
        pairs, chosen = _pairs(files), _chosen(label or [])
        from dino_diffusion.segmentation.embedding import SegmentEmbedding

        before = SegmentEmbedding.load(start) if start else None
        called = name or (before.name if before else output.stem)
        examples = [_read(image, mask) for image, mask in pairs]
        loaded = load_bundle(bundle, device, console)
        from dino_diffusion.segmentation import learn as library

        started = time.perf_counter()
        with console.progress(f"Learning '{called}'", library.steps_of(examples)) as advance:
            embedding = library.learn(
                loaded,
                examples,
                called,
                list(chosen) or None,
                before,
                callback=lambda done, total: advance(1),
                names={value: text for value, text in chosen.items() if text},
                seed=seed,
            )
        embedding.save(output)
        document |= {"embedding": str(output), "bytes": output.stat().st_size, **embedding.about()}
        document["without"] = sum(not mask.any() for _, mask in examples)
        document["seconds"] = round(time.perf_counter() - started, 3)
    console.say(*describe(document))


def describe(document: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    count, without = document["examples"], document["without"]
    segments = (learnt["segment"] for learnt in document["segments"])
    return [
        f"{document['embedding']} ({document['bytes'] / 1000:.1f} kB): '{document['name']}' from {count} "
        f"example{'s' * (count > 1)}{f' ({without} without it)' * (without > 0)} in "
        f"{document['seconds']:.0f} s",
        "    labels: " + ", ".join(f"{segment['value']} {segment['name']}" for segment in segments),
    ]


def _read(image: Path, mask: Path) -> Example:
    from dino_diffusion.files.read_labels import read_labels
    from dino_diffusion.radiograph import Radiograph

    radiograph = Radiograph.read(image)
    return radiograph, read_labels(mask, radiograph)


def _pairs(files: list[Path]) -> list[tuple[Path, Path]]:
    if len(files) % 2:
        raise ConfigurationError(
            f"{files[-1]} stands alone; give an image and its mask, then the next image and its mask."
        )
    return list(zip(files[::2], files[1::2], strict=True))


def _chosen(labels: list[str]) -> dict[int, str]:
    """Names by label value, empty where none is given."""
    chosen = {}
    for text in labels:
        value, _, called = text.partition("=")
        if not value.isdecimal() or not 1 <= int(value) <= 255:
            raise ConfigurationError(f"--label {text}: give a number from 1 to 255, or NUMBER=NAME.")
        chosen[int(value)] = called.strip()
    return chosen
