"""Submitted labels as an nnU-Net v2 data set (Isensee et al., Nature Methods 2021)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK
from monailabel.interfaces.datastore import Datastore

from dino_diffusion.errors import ConfigurationError
from monailabel_app.lib.export.cases import Case, Export, check_empty, gather
from monailabel_app.lib.worklist import FINAL
from monailabel_app.progress import report

ENDING = ".nii.gz"
NAME = re.compile(r"[A-Za-z0-9]{1,40}")
FIRST_FREE_ID, LAST_ID = 1, 999


def export_nnunet(
    datastore: Datastore,
    folder: Path,
    name: str = "Radiographs",
    number: int = 501,
    images: Sequence[str] = (),
    tag: str = FINAL,
) -> Export:
    """Writes `folder/Dataset<number>_<name>`: imagesTr, labelsTr and dataset.json.

    Images are float32 in [0, 1], bright = dense, head up; one-slice volumes with the pixel spacing, so that
    2D configurations plan with it. Labels have the same grid, classes numbered from 1 without gaps; where
    segments overlap, those of the later layer count.
    Raises ConfigurationError for an impossible name, a folder that is not empty, or no label at all.
    """
    if not NAME.fullmatch(name) or not FIRST_FREE_ID <= number <= LAST_ID:
        raise ConfigurationError(
            "An nnU-Net data set has a name of up to 40 letters and digits, and a number from 1 to 999."
        )
    target = folder / f"Dataset{number:03d}_{name}"
    check_empty(target)
    gathered = gather(datastore, images, tag)
    for part in ("imagesTr", "labelsTr"):
        (target / part).mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    for case in gathered.cases():
        report(len(written) / gathered.count, f"Exporting {case.name}")
        _write(case.radiograph.pixels, case, target / "imagesTr" / f"{case.name}_0000{ENDING}")
        _write(case.mask, case, target / "labelsTr" / f"{case.name}{ENDING}")
        written[case.image] = case.name
    described = {
        "channel_names": {"0": "X-ray"},
        "labels": {"background": 0} | {text: k for k, text in enumerate(gathered.classes.names, start=1)},
        "numTraining": len(written),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    (target / "dataset.json").write_text(json.dumps(described, indent=1) + "\n")
    return Export(target, written, gathered.left_out)


def _write(picture: np.ndarray, case: Case, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(picture[None])
    row, column = case.radiograph.spacing_mm or (1.0, 1.0)
    # The slice's thickness says nothing; as nnU-Net itself does for 2D images, it is far larger.
    image.SetSpacing((column, row, 999.0))
    SimpleITK.WriteImage(image, str(path), True)
