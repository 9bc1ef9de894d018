"""`dino-diffusion synthesize`: a synthetic data set from a pool of labelled radiographs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, hush_libraries
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    from dino_diffusion.generation.processes import Launched
    from dino_diffusion.generation.synthesis import Planned, Synthesis
    from dino_diffusion.models import ModelBundle


class Method(StrEnum):
    """What `--method` knows; see `generation.synthesis`."""

    class_mean = "class-mean"
    concept = "concept"
    like = "like"


def synthesize(
    pool: Annotated[
        Path,
        typer.Argument(
            metavar="POOL.csv", help="Real images: columns image (path beside the list), label, patient."
        ),
    ],
    output: options.OutputFolder,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, max=100_000, help="How many, spread over the labels.")
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="Draw from a label's mean embedding and its spread, learn a concept of its images, or make "
            "variants like each of them."
        ),
    ] = Method.class_mean,
    jitter: Annotated[
        float, typer.Option(min=0, max=1, metavar="J", help="How far each picture's embedding strays.")
    ] = 0.0,
    strength: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, metavar="S", help="With like: start from the image under this much noise."
        ),
    ] = 1.0,
    inversion_steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, metavar="K", help="With concept: training steps a label.", show_default="60"
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, metavar="W", help="Processes that make pictures side by side.")
    ] = 1,
    seed: options.Seed = 0,
    steps: options.Steps = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=20,
            metavar="G",
            help="How closely to follow embedding or concept: 0 ignores it, 1 is plain sampling.",
            show_default="1.0, with concept 2.0",
        ),
    ] = None,
    json: options.Json = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Make a labelled synthetic data set from the images of POOL.csv alone.

    Writes DIR/<label>_<k>.png, its .recipe.json, and manifest.csv. The same command goes on where it was
    stopped, and a larger -n adds to the set. Under `accelerate launch` or `torchrun` each process makes its
    share.
    """
    console = Output(quiet, json)
    with console.document() as document:
        check_folder(output)
        from dino_diffusion.files.labelled_list import read_labelled
        from dino_diffusion.generation import synthesis as plans
        from dino_diffusion.generation.nearest import SUSPICIOUS
        from dino_diffusion.generation.processes import Launched, device_of, wait_for_pictures
        from dino_diffusion.generation.synthesize import manifest_rows, write_manifest

        given: dict[str, Any] = {"steps": steps, "guidance": guidance, "inversion_steps": inversion_steps}
        settings = plans.SynthesisSettings(
            method.value,
            seed,
            jitter=jitter,
            strength=strength,
            **{name: value for name, value in given.items() if value is not None},
        )
        synthesis = plans.Synthesis.of(read_labelled(pool), count, output, settings)
        launched = Launched.here()
        own_device = device_of(device, launched.local_rank * workers)
        loaded = load_bundle(bundle, own_device, console)
        started = time.perf_counter()
        _prepare(loaded, synthesis, launched, console)
        kept = sum(picture.there(output) for picture in synthesis.planned())
        total = count if launched.first else len(synthesis.planned()[launched.rank :: launched.size])
        with console.progress("Making pictures", total) as advance:
            own = set()
            for picture in _made(loaded, synthesis, launched, (bundle, device, workers)):
                own.add(picture.file)
                advance(1)
            if launched.first:
                wait_for_pictures(synthesis, own, lambda picture: advance(1))
        if not launched.first:
            return
        rows = manifest_rows(synthesis)
        manifest = write_manifest(synthesis, rows)
        labels = Counter(row["label"] for row in rows)
        suspicious = [row["image"] for row in rows if (row["nearest_percentile"] or 0) >= SUSPICIOUS]
        document |= {
            "manifest": str(manifest),
            "images": count,
            "kept": kept,
            "labels": dict(labels),
            "method": method.value,
            "bundle": loaded.id,
            "nearest_checked": loaded.training_index is not None,
            "suspicious": suspicious,
            "seconds": round(time.perf_counter() - started, 3),
        }
    console.say(
        f"{manifest}: {count} images ({', '.join(f'{n} {label}' for label, n in labels.items())}), "
        f"{kept} of them from an earlier run, {document.get('seconds', 0):.1f} s",
        *[f"    {name}: may be a copy of a training image, compare it first" for name in suspicious],
    )


def _prepare(bundle: ModelBundle, synthesis: Synthesis, launched: Launched, console: Output) -> None:
    from dino_diffusion.generation.processes import wait_for_concepts
    from dino_diffusion.generation.synthesis import CONCEPT
    from dino_diffusion.generation.synthesize import prepare

    if not launched.first:
        synthesis.claim(bundle.id)
        wait_for_concepts(synthesis)
        return
    learnt = len(synthesis.labels) if synthesis.settings.method == CONCEPT else 0
    if not learnt:
        prepare(bundle, synthesis)
        return
    with console.progress("Learning concepts", learnt * synthesis.settings.inversion_steps) as advance:
        prepare(bundle, synthesis, lambda step, steps, loss: advance(1))


def _made(
    bundle: ModelBundle, synthesis: Synthesis, launched: Launched, how: tuple[str | None, str | None, int]
) -> Iterator[Planned]:
    from dino_diffusion.generation.processes import jobs, work
    from dino_diffusion.generation.synthesize import make

    name, device, workers = how
    if workers == 1:
        return make(bundle, synthesis, launched.rank, launched.size)
    return work(jobs(synthesis, name, device, workers, launched, hush_libraries))
