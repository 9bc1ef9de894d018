"""What is done to one file on either side of the models: it is read, and what they found is written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dino_diffusion.cli.console import sentence
from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG
from dino_diffusion.errors import DinoDiffusionError, RadiographError
from dino_diffusion.files.inputs import output_names
from dino_diffusion.files.write_labelmap import ENDINGS, SAME, default_format, write_labelmap
from dino_diffusion.pictures import overlay, save_png
from dino_diffusion.radiograph import Labelmap, Radiograph, Source
from dino_diffusion.segmentation.lungs import LungSegmentation
from dino_diffusion.segmentation.zones import zoned
from dino_diffusion.view import GreyScale, ModelView, SquareView

if TYPE_CHECKING:
    from dino_diffusion.segmentation.learnt import LearntSegmentation

OVERLAY_ENDING = "_overlay"

Shown = tuple[np.ndarray, SquareView, GreyScale]
"""A model view as other processes can have it: its tensor would be sent as an open file."""

Picture = tuple[Radiograph, ModelView, float]
"""What was read, its model view, and the seconds that took."""


@dataclass(frozen=True)
class File:
    """An input and what its results are called."""

    path: Path
    name: str
    overlay_name: str


def named(paths: Sequence[Path]) -> list[File]:
    """The inputs with names for their results, no overlay called like another input's labelmap."""
    names = output_names(paths)
    taken = {name.casefold() for name in names}
    files = []
    for path, name in zip(paths, names, strict=True):
        overlay_name, number = f"{name}{OVERLAY_ENDING}", 1
        while overlay_name.casefold() in taken:
            number += 1
            overlay_name = f"{name}{OVERLAY_ENDING}-{number}"
        taken.add(overlay_name.casefold())
        files.append(File(path, name, overlay_name))
    return files


class Found(Protocol):
    """What the models found on a view."""

    def outlined(self, radiograph: Radiograph, view: ModelView) -> LungSegmentation | LearntSegmentation:
        """On the radiograph's own grid."""
        ...

    @property
    def negative(self) -> bool:
        """Whether it was found on the negative of the view that was read."""
        ...


@dataclass(frozen=True)
class Desk:
    """Keeps what it has read until that is finished.

    `size`: of model views. `inputs`: resolved, none may be overwritten. `zones`: thirds of the lungs instead
    of lungs. Every method raises DinoDiffusionError, a sentence that names the file, and nothing else.
    """

    size: int
    folder: Path
    format: str | None = None
    overlay: bool = False
    inputs: frozenset[Path] = frozenset()
    zones: bool = False
    pictures: dict[File, Picture] = field(default_factory=dict)

    def read(self, file: File) -> Shown:
        """The file's model view."""
        with told(file.path):
            start = time.perf_counter()
            radiograph = Radiograph.read(file.path)
            view = radiograph.model_view(self.size)
            self.pictures[file] = radiograph, view, time.perf_counter() - start
            return view.pixels.numpy(), view.square, view.scale

    def negative(self, file: File) -> Shown:
        """The negative of the view that was read."""
        with told(file.path):
            view = self._picture(file)[0].model_view(self.size, negative=True)
            return view.pixels.numpy(), view.square, view.scale

    def forget(self, file: File) -> None:
        """Of a file that is not to be finished."""
        self.pictures.pop(file, None)

    def finish(self, file: File, found: Found, seconds: float) -> dict[str, Any]:
        """Writes the results of what was read; its entry in the JSON document. `seconds`: the models'."""
        with told(file.path):
            return self._finish(file, found, seconds)

    def _picture(self, file: File) -> Picture:
        """What was read, if need be by a process that was killed since."""
        if file not in self.pictures:
            self.read(file)
        return self.pictures[file]

    def _finish(self, file: File, found: Found, seconds: float) -> dict[str, Any]:
        radiograph, view, read = self._picture(file)
        self.forget(file)
        start = time.perf_counter()
        if found.negative:
            view = radiograph.model_view(self.size, negative=True)
        segmentation = found.outlined(radiograph, view)
        labelmap = zoned(segmentation.labelmap) if self.zones else segmentation.labelmap
        labelled = time.perf_counter()
        target = self._free(labelmap_path(radiograph.source, self.folder, self.format, file.name))
        picture = self._free(self.folder / f"{file.overlay_name}.png") if self.overlay else None
        target = write_labelmap(labelmap, target, self.format)
        if picture:
            drawn = overlay(radiograph.pixels, labelmap.labels, segments=labelmap.segments)
            save_png(drawn, picture)
        written = time.perf_counter()
        spent = {"read": read, "segment": seconds + labelled - start, "write": written - labelled}
        return {
            "input": str(file.path),
            "labelmap": str(target),
            "overlay": str(picture) if picture else None,
            "shape": list(radiograph.shape),
            "spacing_mm": radiograph.spacing_mm,
            **self._areas(segmentation, labelmap),
            "uncertainty": float(segmentation.uncertainty),
            "warnings": list(segmentation.warnings),
            "seconds": {stage: round(time, 4) for stage, time in spent.items()},
        }

    def _areas(self, found: LungSegmentation | LearntSegmentation, shown: Labelmap) -> dict[str, Any]:
        if isinstance(found, LungSegmentation):
            areas = {"lungs": lung_areas(found.labelmap)}
            return areas | ({"segments": segment_areas(shown)} if self.zones else {})
        return {"segments": segment_areas(shown), "uncertainties": found.uncertainties}

    def _free(self, target: Path) -> Path:
        if target.resolve() in self.inputs:
            raise RadiographError(
                f"{target}: the result would replace an input of that name; choose another folder with -o."
            )
        return target


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Whatever a library makes of an odd file becomes a sentence, which other processes can hear, too."""
    try:
        yield
    except DinoDiffusionError:
        raise
    except Exception as error:
        raise DinoDiffusionError(
            f"{path}: cannot be labelled ({type(error).__name__}: {sentence(error)}); please report it, "
            "with the file."
        ) from error


def labelmap_path(source: Source, folder: Path, format: str | None, name: str) -> Path:
    """Where `write_labelmap` is to write."""
    chosen = format or default_format(source)
    return folder / f"{name}{ENDINGS[SAME.get(source.format, 'png') if chosen == 'same' else chosen]}"


def lung_areas(labelmap: Labelmap) -> dict[str, dict[str, float | None]]:
    """Area of each lung: share of the picture, and cm2 where the pixel spacing is known."""
    return {side: _area(labelmap, value) for side, value in (("right", RIGHT_LUNG), ("left", LEFT_LUNG))}


def segment_areas(labelmap: Labelmap) -> list[dict[str, Any]]:
    """The same for learnt segments, with label value and name."""
    return [
        {"label": value, "name": name, **_area(labelmap, value)} for value, name in labelmap.names.items()
    ]


def _area(labelmap: Labelmap, value: int) -> dict[str, float | None]:
    spacing = labelmap.radiograph.spacing_mm
    pixels = int((labelmap.labels == value).sum())
    cm2 = pixels * spacing[0] * spacing[1] / 100 if spacing else None
    return {"pixels": pixels, "share": pixels / labelmap.labels.size, "cm2": cm2}
