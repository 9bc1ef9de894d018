"""`dino-diffusion evaluate utility`: does a synthetic data set help a classifier?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.segment import check_folder


def utility(
    real: Annotated[
        Path, typer.Option(metavar="CSV", help="Real images to train on: columns image, label, patient.")
    ],
    synthetic: Annotated[
        list[Path],
        typer.Option(metavar="CSV", help="Synthetic ones, a manifest of synthesize; again for more sets."),
    ],
    test: Annotated[Path, typer.Option(metavar="CSV", help="Real images of other patients to test on.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write tables and a figure there, and go on there."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Trainings an arm.")] = 5,
    steps: Annotated[
        int, typer.Option(min=2, max=100_000, metavar="K", help="Training steps, the same in every arm.")
    ] = 120,
    batch: Annotated[
        int, typer.Option(min=4, max=1024, metavar="B", help="Pictures a step, a multiple of 4.")
    ] = 16,
    json: options.Json = False,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """AUC of a classifier trained on real images, with and without classical augmentation and synthetic ones.

    All arms train the same network for as many steps. Every AUC has a 95 % bootstrap confidence interval over
    test patients and trainings. With -o also utility.json, utility.csv, utility.md and utility.png, and a
    stopped run goes on.
    """
    console = Output(quiet, json)
    with console.document() as document:
        if output is not None:
            check_folder(output)
        from dino_diffusion.device import choose_device
        from dino_diffusion.evaluation.utility import Study, UtilitySettings
        from dino_diffusion.evaluation.utility_images import ImageSet, check_patients, classes_of
        from dino_diffusion.evaluation.utility_report import table
        from dino_diffusion.files.labelled_list import read_labelled

        settings = UtilitySettings(seeds, steps, batch)
        made = {f"synthetic {name}".strip(): path for name, path in set_names(synthetic).items()}
        lists = {name: read_labelled(path) for name, path in {"real": real, "test": test, **made}.items()}
        negative, positive = classes_of(lists)
        check_patients(lists["real"], lists["test"])
        sets = {}
        with console.progress("Reading images", sum(map(len, lists.values()))) as advance:
            for name, images in lists.items():
                sets[name] = ImageSet.read(images, positive, tell=advance)
        study = Study(
            sets["real"],
            {name.removeprefix("synthetic").strip(): sets[name] for name in made},
            sets["test"],
            settings,
            device=choose_device(device),
            kept=output / "trainings" if output else None,
        )
        started = time.perf_counter()
        with console.progress("Training classifiers", len(study.trials()) * seeds) as advance:
            scores = study.run(lambda row, seed: advance(1))
        document |= {"positive": positive, "negative": negative, **study.report(scores)}
        document["seconds"] = round(time.perf_counter() - started, 3)
        lines = [_said(document), "", *table(document["arms"])]
        if output is not None:
            document["files"] = _write(output, document, lines)
        written = document.get("files", [])
    console.say(*lines, *written)


def set_names(paths: list[Path]) -> dict[str, Path]:
    """What to call each synthetic set: nothing where there is one, else its folder's name or its own."""
    if len(paths) == 1:
        return {"": paths[0]}
    names: dict[str, Path] = {}
    for number, path in enumerate(paths, start=1):
        name = path.absolute().parent.name if path.stem == "manifest" else path.stem
        names[name if name and name not in names else f"{name}-{number}"] = path
    return names


def _said(document: dict[str, Any]) -> str:
    counts = ", ".join(
        f"{name} {found['positive']} + {found['negative']}" for name, found in document["images"].items()
    )
    settings = document["settings"]
    return (
        f"{document['positive']} against {document['negative']}: {counts} images; "
        f"{settings['steps']} steps of {settings['batch']} pictures, {settings['seeds']} seeds"
    )


def _write(folder: Path, document: dict[str, Any], lines: list[str]) -> list[str]:
    from json import dumps

    from dino_diffusion.evaluation.cases import write_table
    from dino_diffusion.evaluation.utility_report import csv_rows, figure
    from dino_diffusion.files.atomic import atomic_path
    from dino_diffusion.pictures import save_png

    paths = {ending: folder / f"utility.{ending}" for ending in ("json", "csv", "md", "png")}
    for ending, text in (("json", dumps(document, indent=1)), ("md", "\n".join(lines))):
        with atomic_path(paths[ending]) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    write_table(csv_rows(document["arms"]), paths["csv"])
    title = f"{document['positive']} against {document['negative']}"
    real = sum(document["images"]["real"].values())
    save_png(figure([(f"{real} real images", document["arms"])], title, 1000), paths["png"])
    return [str(path) for path in paths.values()]
