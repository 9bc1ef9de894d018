"""Results as files in the geometry of their source, and as JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dino_diffusion.codes import Code
from dino_diffusion.files.formats import SUFFIXES, format_of_suffix
from dino_diffusion.files.write_image import image_format, write_image
from dino_diffusion.files.write_labelmap import ENDINGS, SAME, write_labelmap
from dino_diffusion.generation.recipe import Recipe
from dino_diffusion.radiograph import Labelmap, Radiograph, Source
from monailabel_app import progress
from monailabel_app.lib.errors import RequestError

EXTENSION = "result_extension"
"""Of a request: the format of the result by its ending. The stock client's other wish, `result_dtype`, is
left aside: labels are uint8 anyway, and an image in another type would no longer be its source's."""

LABEL_FORMATS = {ending: name for name, ending in ENDINGS.items()} | {".nii": "nii.gz", ".tiff": "tiff"}
"""What can be asked for, for images too, where `.dcm` is no segmentation but a DICOM image."""

ONLY_DICOM = "The image's black is dense, which only DICOM and TIFF can say: the result has its own format."

PREVIEW_SIDE = 384


def result_path(name: str, ending: str) -> Path:
    """Where a result goes: into the job's folder, without one into a temporary file."""
    folder = progress.folder.get()
    if folder is not None:
        return folder / f"{name}{ending}"
    with tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=ending, delete=False) as file:
        return Path(file.name)


def label_ending(source: Source, request: Mapping[str, Any]) -> str:
    """As asked, else the source's own, NRRD for DICOM. `.dcm` means DICOM SEG. Raises RequestError."""
    asked = _asked(request)
    if not asked:
        return ".nrrd" if source.format == "dicom" else ENDINGS[SAME.get(source.format, "png")]
    return asked


def write_labels(labelmap: Labelmap, request: Mapping[str, Any], name: str = "labels") -> Path:
    """On the source's own grid. Raises RequestError, and RadiographError where the format cannot hold it."""
    ending = label_ending(labelmap.radiograph.source, request)
    if ending == ".dcm" and labelmap.radiograph.source.format != "dicom":
        raise RequestError("DICOM SEG needs a DICOM radiograph to refer to; ask for .nrrd, .nii.gz or .png.")
    path = result_path(name, ending)
    try:
        return write_labelmap(labelmap, path, LABEL_FORMATS[ending])
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def image_ending(source: Source, request: Mapping[str, Any]) -> tuple[str, list[str]]:
    """As asked, else the source's own where that is lossless; and warnings. Raises RequestError."""
    own = SUFFIXES[image_format(source)][0]
    asked = _asked(request)
    if not asked:
        return own, []
    if asked == ".dcm" and source.format != "dicom":
        raise RequestError("A DICOM result needs a DICOM radiograph; ask for .nrrd, .nii.gz or .png.")
    if not source.bright_is_dense and format_of_suffix(asked) != source.format:
        return own, [ONLY_DICOM]
    return asked, []


def write_synthetic(radiograph: Radiograph, stored: np.ndarray, path: Path, recipe: Recipe) -> list[Path]:
    """An image with its recipe inside; in a job's folder the recipe lies beside it too."""
    written = [write_image(radiograph, stored, path, synthetic=recipe.to_dict())]
    if progress.folder.get() is not None:
        written.append(recipe.write_beside(written[0]))
    return written


def described(labelmap: Labelmap) -> dict[str, Any]:
    """What the values mean: `label_names` as stock clients read it, and `labels` with codes and colours."""
    segments = [labelmap.segment(value) for value in sorted(labelmap.names)]
    return {
        "label_names": {segment.name: segment.value for segment in segments},
        "labels": [
            {
                "name": segment.name,
                "value": segment.value,
                "code": segment.kind.value,
                "scheme": segment.kind.scheme,
                "meaning": segment.kind.meaning,
                "laterality": _code(segment.laterality),
                "colour": list(segment.colour),
            }
            for segment in segments
        ],
    }


def preview(pixels: np.ndarray) -> Image.Image:
    """A small grey picture of `(H, W)` in [0, 1]."""
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return picture


def _code(code: Code | None) -> dict[str, str] | None:
    return None if code is None else {"code": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _asked(request: Mapping[str, Any]) -> str:
    given = request.get(EXTENSION) or ""
    if not isinstance(given, str):
        raise RequestError(f"{EXTENSION} has to be an ending such as .nrrd.")
    given = given.strip().lower()
    ending = f".{given}" if given and not given.startswith(".") else given
    if ending and ending not in LABEL_FORMATS:
        known = ", ".join(sorted(LABEL_FORMATS))
        raise RequestError(f"{EXTENSION}={ending[:20]!r} cannot be written: use one of {known}.")
    return ending
