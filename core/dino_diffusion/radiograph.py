"""One radiograph: its grey values, its geometry, and the way back to the file it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dino_diffusion.codes import LUNG_NAMES, Segment, segment_of
from dino_diffusion.errors import RadiographError
from dino_diffusion.files.checks import check_content, check_size
from dino_diffusion.files.grey import GreyMap, LinearGrey, range_of
from dino_diffusion.files.grid import Geometry, Grid
from dino_diffusion.view import ModelView


@dataclass(frozen=True)
class Source:
    """Where a radiograph comes from and what is needed to write onto its grid again.

    `format` is one of png, jpeg, webp, tiff, nifti, nrrd, mha, dicom, array. `sha256` is that of the file's
    bytes (of the pixels, for an array). `dataset` is the pydicom dataset without its pixels, `header` the
    nibabel header. `lossy` says that the file's compression has already changed the pixels. `synthetic`
    is what the file says about its own making by this package, or None.
    """

    name: str
    format: str
    sha256: str
    dtype: np.dtype
    grid: Grid
    path: Path | None = None
    geometry: Geometry | None = None
    dataset: Any = field(default=None, repr=False)
    header: Any = field(default=None, repr=False)
    bright_is_dense: bool = True
    lossy: bool = False
    synthetic: dict[str, Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stored array, numpy order, axes of length one included."""
        return self.grid.shape


@dataclass(frozen=True)
class Radiograph:
    """A single-frame projection image, upright: head up, the patient's right on the left.

    pixels: float32 `(H, W)` in [0, 1], bright = dense. stored: `(H, W)`, the file's own values and dtype,
    turned like `pixels`. spacing_mm: (row, column) distance of pixel centres, at the detector where the
    file gives only that, None where it gives none.
    """

    pixels: np.ndarray
    stored: np.ndarray
    spacing_mm: tuple[float, float] | None
    grey: GreyMap
    source: Source

    @classmethod
    def read(cls, path: str | Path) -> Radiograph:
        """Read any supported file. Raises RadiographError, one sentence, for what is not a radiograph."""
        from dino_diffusion.files.read import read_radiograph

        return read_radiograph(Path(path))

    @classmethod
    def from_array(
        cls, array: np.ndarray, spacing_mm: tuple[float, float] | None = None, name: str = "array"
    ) -> Radiograph:
        """From `(H, W)` numbers, bright = dense, of any real dtype. Floats within [0, 1] keep their grey.

        Raises RadiographError for a wrong shape or size, NaN, infinity or a constant picture.
        """
        if array.ndim != 2:
            raise RadiographError(f"{name}: the array has {array.ndim} axes; pass one grey picture (H, W).")
        array = np.ascontiguousarray(array)
        check_size(name, *array.shape)
        check_content(name, array)
        source = Source(
            name, "array", hashlib.sha256(array.tobytes()).hexdigest(), array.dtype, Grid(array.shape)
        )
        unit = array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1
        grey = LinearGrey(0.0, 1.0) if unit else range_of(array)
        return cls(grey.shown(array), array, spacing_mm, grey, source)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright picture."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def model_view(self, size: int = 256, negative: bool = False) -> ModelView:
        """The square, antialiased, grey-normalised picture the models see, with the way back.

        `negative`: the radiograph shows bone dark; the view shows it bright, as the models know it.
        """
        return ModelView.of(self.pixels, size, negative)

    def to_stored(self, pixels: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Edited pixels `(H, W)` in [0, 1] as stored values, changed only where the mask is true.

        Elsewhere, and where a pixel is shown exactly as before, the stored value is untouched, all 16 bits
        of it. Inside the mask a window that clips limits the new values to its own range.
        Raises RadiographError where the shapes do not fit.
        """
        if pixels.shape != self.shape or where.shape != self.shape:
            raise RadiographError(
                f"{self.source.name}: pixels {pixels.shape} and mask {where.shape} do not lie on its grid "
                f"{self.shape}; resample them onto it first."
            )
        changed = where.astype(bool) & (pixels != self.pixels)
        edited = self.stored.copy()
        edited[changed] = self.grey.stored(pixels[changed], self.stored.dtype)
        return edited


@dataclass(frozen=True)
class Labelmap:
    """Label values on a radiograph's grid: uint8 `(H, W)`, turned like its pixels, 0 background.

    `names` gives every value that the labelmap may hold, also those absent from this picture; `segments`
    says what a value means where that is not the package's own meaning of it.
    """

    labels: np.ndarray
    radiograph: Radiograph
    names: dict[int, str] = field(default_factory=lambda: dict(LUNG_NAMES))
    segments: dict[int, Segment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels.shape != self.radiograph.shape or self.labels.dtype != np.uint8:
            raise RadiographError(
                f"{self.radiograph.source.name}: the labels ({self.labels.dtype}, {self.labels.shape}) must "
                f"be uint8 on the radiograph's grid {self.radiograph.shape}; resample or convert them first."
            )

    def segment(self, value: int) -> Segment:
        """What a value stands for here."""
        return self.segments.get(value) or segment_of(value, self.names.get(value))
