"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|HUB",
        help="Model bundle: a folder or a Hugging Face name.",
        show_default="the one that travels with the package",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where to compute: cpu, cuda, cuda:1 ...",
        show_default="the first GPU, else the CPU",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results; made if missing.")
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, max=1000, metavar="K", help="Sampling steps.", show_default="12"),
]
StepsInPlace = Annotated[
    int | None,
    typer.Option(min=1, max=1000, metavar="K", help="Sampling steps.", show_default="16"),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=20,
        metavar="G",
        help="How closely to follow the embedding: 0 ignores it, 1 is plain sampling.",
        show_default="1.0",
    ),
]
InPlace = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=20,
        metavar="G",
        help="How far to go toward the concepts; without one, toward what the surroundings suggest.",
        show_default="20.0, concepts without an opposite 4.0; without a concept 2.0",
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, metavar="S", help="Same seed, same device: same pictures.")
]


class LabelmapFormat(StrEnum):
    """What `segment --format` knows."""

    png = "png"
    nifti = "nii.gz"
    nrrd = "nrrd"
    dcmseg = "dcmseg"
    same = "same"


class ImageFormat(StrEnum):
    """What `generate --format` knows."""

    png = "png"
    tiff = "tiff"
    nifti = "nii.gz"
    nrrd = "nrrd"
    mha = "mha"
    dicom = "dcm"


class Part(StrEnum):
    """What `train` can train."""

    encoder = "encoder"
    autoencoder = "autoencoder"
    denoiser = "denoiser"
    readout = "readout"
