"""The model, loaded once and kept warm, and what it made of the images it saw last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import TypeVar

import numpy as np
from cachetools import LRUCache

from dino_diffusion.device import choose_device
from dino_diffusion.files.formats import suffix_of
from dino_diffusion.files.inputs import list_inputs
from dino_diffusion.generation.embedding import embed
from dino_diffusion.models import ModelBundle
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.lungs import LungSegmentation, lungs_of
from dino_diffusion.segmentation.observation import Observation, observe
from dino_diffusion.segmentation.regions import Regions, regions
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.progress import report

Made = TypeVar("Made")

KEPT_IMAGES, KEPT_REGIONS = 4, 8
"""An image of 3000 x 3000 pixels and all that is kept of it takes about 120 MB, its regions 2 MB."""

LOOKING = "Looking at the image"


class Engine:
    """Results depend on the image's content alone, whatever file it comes in: they are kept by its hash."""

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle
        self._lock = RLock()
        self._radiographs: LRUCache[str, Radiograph] = LRUCache(KEPT_IMAGES)
        self._observations: LRUCache[str, Observation] = LRUCache(KEPT_IMAGES)
        self._lungs: LRUCache[str, LungSegmentation] = LRUCache(KEPT_IMAGES)
        self._regions: LRUCache[str, Regions] = LRUCache(KEPT_REGIONS)

    @classmethod
    def load(cls, bundle: str | None = None, device: str | None = None) -> Engine:
        """By folder or hub name, the default bundle for None. Raises BundleError and ConfigurationError."""
        return cls(ModelBundle.from_pretrained(bundle or None, choose_device(device or None)))

    def open(self, path: str | Path) -> Radiograph:
        """The radiograph in a file, or in a folder that holds one. Raises RequestError, RadiographError."""
        file = image_file(Path(path))
        with file.open("rb") as stream:
            key = f"{hashlib.file_digest(stream, 'sha256').hexdigest()}{suffix_of(file)}"
        return self._kept(self._radiographs, key, lambda: Radiograph.read(file))

    def observe(self, radiograph: Radiograph) -> Observation:
        """What the models see in it; reports its progress and lets Cancelled through."""
        return self._kept(self._observations, radiograph.source.sha256, lambda: self._observe(radiograph))

    def lungs(self, radiograph: Radiograph) -> LungSegmentation:
        """Right and left lung; the map of uncertainty, the largest part of it, is not kept."""

        def make() -> LungSegmentation:
            found = lungs_of(self.bundle, self.observe(radiograph))
            return replace(found, uncertainty_map=np.zeros((0, 0), np.float32))

        return self._kept(self._lungs, radiograph.source.sha256, make)

    def regions(self, radiograph: Radiograph) -> Regions:
        """The hierarchy of regions, from which every granularity answers at once."""

        def make() -> Regions:
            # With attention from the start the denoiser runs once; attention itself is large, and not kept.
            observation = self._observe(radiograph, attention=True)
            with self._lock:
                self._observations[radiograph.source.sha256] = replace(observation, attention=())
            return regions(self.bundle, observation)

        return self._kept(self._regions, radiograph.source.sha256, make)

    def embedding(self, radiograph: Radiograph) -> np.ndarray:
        """The encoder's CLS token as a unit vector, float32 `(width,)`; needs no denoiser."""
        with self._lock:
            known = self._observations.get(radiograph.source.sha256)
        cls = known.encoded.tokens.cls if known is not None else embed(self.bundle, radiograph).cls
        vector = cls[0].float().cpu().numpy()
        return vector / max(float(np.linalg.norm(vector)), 1e-12)

    def _observe(self, radiograph: Radiograph, attention: bool = False) -> Observation:
        def tell(done: int, total: int) -> None:
            report(0.8 * done / total, LOOKING)

        report(0.0, LOOKING)
        return observe(self.bundle, radiograph, attention=attention, callback=tell)

    def _kept(self, cache: LRUCache[str, Made], key: str, make: Callable[[], Made]) -> Made:
        with self._lock:
            if (found := cache.get(key)) is not None:
                return found
        made = make()
        with self._lock:
            cache[key] = made
        return made


def image_file(path: Path) -> Path:
    """The file itself, or the only image in a folder, as a DICOM series of one image lies there.

    Raises NotFound and RequestError.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise NotFound("The image is not there any more; choose another one.")
    files = list_inputs([path])
    if len(files) != 1:
        raise RequestError(
            f"The study has {len(files)} images, a radiograph is one; choose one of them by itself."
        )
    return files[0]


def file_stamp(path: Path) -> str:
    """Changes with an image's content, as far as the file system tells. Raises as `image_file`."""
    about = image_file(path).stat()
    return f"{about.st_size}:{about.st_mtime_ns}"
