"""`dino-diffusion export`: submitted labels as a folder that training programs read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.errors import ConfigurationError


class Format(StrEnum):
    """What reads it."""

    nnunet = "nnunet"
    coco = "coco"


def export(
    studies: Annotated[
        Path,
        typer.Argument(metavar="STUDIES", help="The folder of radiographs that a server was started on."),
    ],
    output: options.OutputFolder,
    format: Annotated[Format, typer.Option(help="What is to read it.")] = Format.nnunet,
    name: Annotated[str, typer.Option(help="Of an nnU-Net data set.")] = "Radiographs",
    number: Annotated[int, typer.Option(help="Of an nnU-Net data set.")] = 501,
    tag: Annotated[str, typer.Option(help="Which labels: submitted ones are final.")] = "final",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the submitted labels of a folder of radiographs with their images, for nnU-Net or as COCO.

    Images are written upright, bright = dense; the same name of a segment means the same class everywhere.
    """
    console = Output(quiet, json)
    with console.document() as document:
        if not studies.is_dir():
            raise ConfigurationError(
                f"{studies}: there is no such folder; name one with labelled radiographs."
            )
        document |= _export(studies, output, format, name, number, tag)
    console.say(f"{len(document['cases'])} labelled images -> {document['folder']}")
    console.say(*(f"    left out {image}: {why}" for image, why in document["left_out"].items()))


def _export(studies: Path, output: Path, format: Format, name: str, number: int, tag: str) -> dict[str, Any]:
    try:
        from monailabel_app.server.datastore import DurableDatastore
    except ImportError as error:
        raise ConfigurationError(
            'dino-diffusion export needs the optional part "server": run make setup in a clone.'
        ) from error
    from monailabel_app.lib.export.coco import export_coco
    from monailabel_app.lib.export.nnunet import export_nnunet

    datastore = DurableDatastore(studies, read_only=True)
    if format is Format.coco:
        made = export_coco(datastore, output, tag=tag)
    else:
        made = export_nnunet(datastore, output, name, number, tag=tag)
    return {"folder": str(made.folder), "cases": made.cases, "left_out": made.left_out}
