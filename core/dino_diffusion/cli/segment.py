"""`dino-diffusion segment`: radiographs in, labelled lungs out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain, sentence
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.errors import ConfigurationError, DinoDiffusionError, RadiographError

if TYPE_CHECKING:
    from dino_diffusion.segmentation.embedding import SegmentEmbedding

CPU_BATCH, GPU_BATCH = 8, 32
"""Files at once. Two cores label eight together 1.7 times as fast as one by one."""


def segment(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Radiographs, or folders that hold some.")
    ],
    output: options.OutputFolder,
    format: Annotated[
        options.LabelmapFormat | None,
        typer.Option(help="Format of the labelmaps.", show_default="png, for DICOM dcmseg"),
    ] = None,
    embedding: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Label what `learn` learnt instead of the lungs; again for more structures."
        ),
    ] = None,
    zones: Annotated[
        bool,
        typer.Option(
            "--zones",
            help="Thirds of each lung's height instead of lungs: 3-5 right, from above; 6-8 left.",
        ),
    ] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write a picture to look at.")] = False,
    json: options.Json = False,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Files at once.", show_default="8, on a GPU 32"),
    ] = None,
    bench: Annotated[
        bool, typer.Option("--bench", help="Label each input twice and print the second call's times.")
    ] = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Label the lungs on each radiograph's own pixel grid: 0 background, 1 right lung, 2 left lung.

    With --embedding, the structures learnt from examples, with their masks' label values; each pixel gets the
    most probable one.

    Results are called DIR/<stem>.<ext>; a second input of the same stem gets -2, the next -3.
    """
    from dino_diffusion.cli.segment_desk import Desk, File, named
    from dino_diffusion.cli.segment_job import Outcome, started
    from dino_diffusion.files.inputs import list_inputs

    if zones and embedding:
        raise ConfigurationError("--zones are thirds of the lungs: leave it out with --embedding.")
    console = Output(quiet, json)
    failed: list[dict[str, str]] = []
    with console.document() as document:
        check_folder(output)
        paths = list_inputs(inputs, results=output)
        learnt = load_embeddings(embedding or [])
        loaded = load_bundle(bundle, device, console)
        for each in learnt:
            each.check(loaded)
        results: list[dict[str, Any]] = []
        files = named(paths)
        at_once = min(batch or (GPU_BATCH if loaded.device.type == "cuda" else CPU_BATCH), len(files))
        own = frozenset(p.resolve() for p in paths)
        desk = Desk(loaded.size, output, format.value if format else None, overlay, own, zones)
        rounds: list[dict[File, Outcome]] = [{} for _ in range(2 if bench else 1)]
        with (
            console.progress("Labelling", len(rounds) * len(files)) as advance,
            started(loaded, desk, at_once, len(files), learnt) as job,
        ):
            for outcomes in rounds:
                for file, outcome in job.labelled(files):
                    outcomes[file] = outcome
                    advance(1)
        for file in files:
            first, last = rounds[0][file], rounds[-1][file]
            if isinstance(last, DinoDiffusionError):
                failed.append({"input": str(file.path), "error": sentence(last)})
            elif bench and not isinstance(first, DinoDiffusionError):
                results.append(last | {"bench": {"first": first["seconds"], "warm": last["seconds"]}})
            else:
                results.append(last)
        document |= {"bundle": loaded.id, "device": str(loaded.device), "results": results, "failed": failed}
        if learnt:
            document["embeddings"] = [
                {"file": str(file)} | each.about() for file, each in zip(embedding or [], learnt, strict=True)
            ]
    for result in results:
        console.say(*describe(result))
    if len(paths) > 1 and failed:
        complain(f"{len(failed)} of {len(paths)} files could not be labelled:")
    for entry in failed:
        complain(entry["error"])
    if failed:
        raise typer.Exit(1)


def check_folder(folder: Path) -> None:
    """Fails before the work instead of after it, and makes nothing. Raises RadiographError."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise RadiographError(f"{folder}: cannot be written to; choose a folder that is writable with -o.")


def load_embeddings(files: list[Path]) -> tuple[SegmentEmbedding, ...]:
    """Before the bundle, so that a bad file is told at once. Raises EmbeddingError."""
    if not files:
        return ()
    from dino_diffusion.segmentation.embedding import SegmentEmbedding, check_together

    loaded = tuple(SegmentEmbedding.load(file) for file in files)
    check_together(loaded)
    return loaded


def describe(result: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    regions = {f"{side} lung": area for side, area in result.get("lungs", {}).items()}
    regions |= {f"{area['label']} {area['name']}": area for area in result.get("segments", [])}
    areas = [
        f"{name} " + (f"{area['share']:.1%}" if area["cm2"] is None else f"{area['cm2']:.0f} cm²")
        for name, area in regions.items()
    ]
    unit = "" if result["spacing_mm"] else " of the picture"
    lines = [
        f"{result['input']} -> {result['labelmap']}",
        f"    {', '.join(areas)}{unit}; uncertainty {result['uncertainty']:.2f}",
    ]
    if result["overlay"]:
        lines.append(f"    picture: {result['overlay']}")
    lines += [f"    warning: {warning}" for warning in result["warnings"]]
    if bench := result.get("bench"):
        warm, first = bench["warm"], bench["first"]
        parts = ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in warm.items())
        lines.append(f"    warm: {parts} (first call: segment {first['segment']:.3f} s)")
    return lines
