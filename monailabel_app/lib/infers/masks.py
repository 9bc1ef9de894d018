"""The mask of a request: the file `label`, or with `mask` the stored label of that tag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from monailabel.interfaces.datastore import Datastore

from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.configs.options import names, tag
from monailabel_app.lib.errors import RequestError
from monailabel_app.lib.infers.task import Request, Settings
from monailabel_app.lib.labels import StoredLabel, stored_label

MASK_OPTIONS = (tag("mask"), names("keep_labels", "label values or names with commas between them"))
"""Of a labelmap, `keep_labels` (values, or names of a stored label) stay as they are, and every other value
but 0 is painted. A mask of shares from 0 to 1, not all of them whole, is a soft one."""


def mask_of(
    radiograph: Radiograph, settings: Settings, request: Request, datastore: Callable[[], Datastore]
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """What to paint and what to keep, `(H, W)` each; None where the request has no mask.

    Raises RequestError, NotFound, and RadiographError for a file that does not fit.
    """
    stored: StoredLabel | None = None
    if settings["mask"]:
        if "image_id" not in request:
            raise RequestError("'mask' names a label in the datastore; this image is not from there.")
        stored = stored_label(datastore(), request["image_id"], settings["mask"])
    file = stored.path if stored is not None else request.get("label")
    if not file or not isinstance(file, (str, Path)):
        return None
    values = read_labels(file, radiograph)
    if values.dtype.kind == "f" and not np.all(values == np.round(values)):
        return values, None
    keep = np.isin(values, [_value(name, stored) for name in settings["keep_labels"]])
    return (values != 0) & ~keep, keep


def _value(name: str, stored: StoredLabel | None) -> int:
    value = int(name) if name.isdecimal() else stored.value_of(name) if stored is not None else None
    if value is None:
        raise RequestError(f"keep_labels: there is no label '{name[:64]}' in the mask; give its value.")
    return value
