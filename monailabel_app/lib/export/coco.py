"""Submitted labels as a COCO data set (Lin et al., ECCV 2014): pictures and one JSON file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from PIL import Image

from monailabel_app.lib.export.cases import Case, Classes, Export, check_empty, gather
from monailabel_app.lib.worklist import FINAL
from monailabel_app.progress import report


def export_coco(datastore: Datastore, folder: Path, images: Sequence[str] = (), tag: str = FINAL) -> Export:
    """Writes `folder/images/<name>.png` (8 bits, bright = dense, head up) and `folder/annotations.json`.

    One annotation for each class of an image, as an uncompressed run-length code: exact, holes, separate
    parts and overlaps included. Raises ConfigurationError for a folder that is not empty, or no label at all.
    """
    check_empty(folder)
    gathered = gather(datastore, images, tag)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    written: dict[str, str] = {}
    for case in gathered.cases():
        report(len(written) / gathered.count, f"Exporting {case.name}")
        number = len(written) + 1
        pictures.append(_picture(case, number, folder))
        for annotation in _annotations(case, gathered.classes, number):
            annotations.append({"id": len(annotations) + 1, **annotation})
        written[case.image] = case.name
    document = {
        "info": {
            "description": "Labels submitted to a DiNO-Diffusion server",
            "date_created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        "licenses": [],
        "images": pictures,
        "annotations": annotations,
        "categories": [
            {"id": k, "name": name, "supercategory": "anatomy"}
            for k, name in enumerate(gathered.classes.names, start=1)
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(document) + "\n")
    return Export(folder, written, gathered.left_out)


def _picture(case: Case, number: int, folder: Path) -> dict[str, Any]:
    file = f"{case.name}.png"
    grey = (case.radiograph.pixels * 255 + 0.5).astype(np.uint8)
    Image.fromarray(grey).save(folder / "images" / file)
    height, width = grey.shape
    return {"id": number, "file_name": file, "height": height, "width": width}


def _annotations(case: Case, classes: Classes, number: int) -> list[dict[str, Any]]:
    found = []
    for category in range(1, len(classes.names) + 1):
        where = case.where(category)
        if not where.any():
            continue
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        top, left = int(rows[0]), int(columns[0])
        found.append(
            {
                "image_id": number,
                "category_id": category,
                "segmentation": run_lengths(where),
                "area": int(where.sum()),
                "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                "iscrowd": 0,
            }
        )
    return found


def run_lengths(where: np.ndarray) -> dict[str, Any]:
    """COCO's code of a bool mask `(H, W)`: lengths of runs down the columns, beginning with one of false."""
    flat = where.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(where.shape)}
