"""NRRD and MetaImage through ITK, and what all volume formats share: one slice, lying in the patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK

from dino_diffusion.errors import RadiographError
from dino_diffusion.files import synthetic
from dino_diffusion.files.checks import check_size, grey_of
from dino_diffusion.files.grid import Geometry, Grid, upright
from dino_diffusion.files.read import Decoded


def read_volume(path: Path) -> Decoded:
    """Size checked from the header; the array in numpy order. Raises RadiographError."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        reader.ReadImageInformation()
        shape = tuple(int(length) for length in reversed(reader.GetSize()))
        check_single_slice(path, shape)
        pixels = SimpleITK.GetArrayFromImage(reader.Execute())
    components = reader.GetNumberOfComponents()
    if components > 1:
        pixels = grey_of(str(path), pixels[..., :3]) if components >= 3 else pixels[..., 0]
    geometry = Geometry(reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    mark = reader.GetMetaData(synthetic.KEY) if reader.HasMetaDataKey(synthetic.KEY) else None
    return Decoded(
        pixels,
        grid_of(shape, geometry),
        spacing_mm=spacing_in_plane(shape, geometry),
        geometry=geometry,
        synthetic=synthetic.from_text(mark),
    )


def check_single_slice(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a volume, and a slice of the wrong size."""
    if len(shape) < 2 or sum(length > 1 for length in shape) > 2:
        extent = " x ".join(str(length) for length in reversed(shape))
        raise RadiographError(
            f"{path}: this is a volume of {extent} voxels, not a radiograph; give a file with one slice."
        )
    first, second = Grid(shape).plane
    check_size(str(path), shape[first], shape[second])


def grid_of(shape: tuple[int, ...], geometry: Geometry) -> Grid:
    """How the slice lies in memory, from where it lies in the patient."""
    rows, columns = _itk_axes(shape, geometry)
    return upright(shape, geometry.axis(rows), geometry.axis(columns))


def spacing_in_plane(shape: tuple[int, ...], geometry: Geometry) -> tuple[float, float]:
    """Pixel distances along the array's two long axes, mm: rows, columns, before any transposition."""
    rows, columns = _itk_axes(shape, geometry)
    return geometry.spacing[rows], geometry.spacing[columns]


def _itk_axes(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, int]:
    first, second = Grid(shape).plane
    last = len(geometry.spacing) - 1
    return min(len(shape) - 1 - first, last), min(len(shape) - 1 - second, last)


@contextmanager
def quiet_itk() -> Iterator[None]:
    """No ITK warnings on stderr: what matters comes back as an exception."""
    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)
