"""Radiographs in the scene: volume nodes to images and back, exactly where they lie."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from ..codec import files
from ..codec.geometry import Image, NotAnImage

IMAGE_ATTRIBUTE = "DiNODiffusion.image"
"""Id of the image on the server that a volume came from."""

SERVER_ATTRIBUTE = "DiNODiffusion.server"
SELF_CONTAINED = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".mha")
LOCAL_DATA = b"ElementDataFile = LOCAL"
"""A server's file is read only in formats that hold all their pixels: others can name any file here."""

LUMINANCE = (0.299, 0.587, 0.114)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class NotARadiograph(ValueError):
    """The volume cannot be worked on; the text says why."""


def matrix_of(volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """IJK-to-RAS (4, 4) in mm, without transforms above the volume."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def image_of(volume: slicer.vtkMRMLVolumeNode | None) -> Image:
    """The volume's pixels as Slicer has them (MONOCHROME1 already inverted), colours turned to grey.

    Raises:
        NotARadiograph: there is none, it is empty, or it has several slices.
    """
    if volume is None or volume.GetImageData() is None:
        raise NotARadiograph("Choose a radiograph first: load one, or fetch the next from the worklist.")
    array = slicer.util.arrayFromVolume(volume)
    if array.ndim == 4:
        colours = array[..., :3].astype(float)
        grey = colours @ LUMINANCE if colours.shape[-1] == 3 else colours[..., 0]
        array = np.rint(grey).astype(array.dtype) if array.dtype.kind in "ui" else grey.astype(array.dtype)
    if array.shape[0] != 1:
        raise NotARadiograph(
            f"{volume.GetName()} has {array.shape[0]} slices: a radiograph has one, other images are not"
            " supported."
        )
    return Image(np.array(array), matrix_of(volume))


def grid_of(volume: slicer.vtkMRMLVolumeNode) -> Image:
    """The volume's grid with nothing on it."""
    columns, rows, slices = volume.GetImageData().GetDimensions()
    return Image(np.broadcast_to(np.uint8(0), (slices, rows, columns)), matrix_of(volume))


def onto(volume: slicer.vtkMRMLVolumeNode, result: Image) -> np.ndarray:
    """The pixels of a result that lies on the volume's grid.

    Files without a geometry of their own (PNG) are given one by each reader, so position and pixel size may
    differ; size and orientation may not.

    Raises:
        NotARadiograph: the result lies elsewhere.
    """
    grid = grid_of(volume)
    if result.array.shape == grid.array.shape:
        ours, theirs = (
            m[:3, :3] / np.linalg.norm(m[:3, :3], axis=0) for m in (grid.ijk_to_ras, result.ijk_to_ras)
        )
        if result.same_grid(grid) or (ours * theirs).sum(axis=0)[:2].min() > 0.99:
            return result.array
    raise NotARadiograph(
        f"The server's result does not lie on the pixels of {volume.GetName()}, so it was not used."
    )


def add_volume(image: Image, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """A new volume node with display; the scene names it uniquely."""
    name = slicer.mrmlScene.GenerateUniqueName(name)
    volume = slicer.util.addVolumeFromArray(
        image.array, ijkToRAS=image.ijk_to_ras, name=name, nodeClassName="vtkMRMLScalarVolumeNode"
    )
    if volume.GetDisplayNode() is None:
        volume.CreateDefaultDisplayNodes()
    return volume


def load_image(content: bytes, filename: str, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """A file from the server as a volume.

    Raises:
        NotAnImage: Slicer cannot read it.
    """
    return add_volume(read_image(content, filename), name)


def read_image(content: bytes, filename: str) -> Image:
    """A file from the server as an image; formats but NRRD and NIfTI by a file that is gone then.

    Raises:
        NotAnImage: it cannot be read.
    """
    if content.startswith((b"NRRD", b"\x1f\x8b")) or content[344:347] == b"n+1":
        return files.decode(content)
    with tempfile.TemporaryDirectory(prefix="DiNODiffusion-") as folder:
        # The server's name chooses the reader and nothing else.
        suffix = os.path.splitext(filename)[1].lower()
        is_dicom = content[128:132] == b"DICM"
        path = os.path.join(folder, "image" + (".dcm" if is_dicom else suffix))
        with open(path, "wb") as file:
            file.write(content)
        if is_dicom:
            return _read_dicom(path, filename)
        try:
            if suffix not in SELF_CONTAINED or (suffix == ".mha" and LOCAL_DATA not in content[:4096]):
                raise RuntimeError("may refer to other files of this machine")
            return _from_itk(sitk.ReadImage(path))
        except RuntimeError:
            raise NotAnImage(
                f"{filename} has a format that cannot be read ({suffix or 'no suffix'})."
            ) from None


def _read_dicom(path: str, filename: str) -> Image:
    """By Slicer's own reader, as if the user had opened it (MONOCHROME1 inverted)."""
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(path)
    storage.SetSingleFile(1)
    volume = slicer.vtkMRMLScalarVolumeNode()
    if not storage.ReadData(volume):
        raise NotAnImage(f"{filename} is a DICOM file that Slicer cannot read.")
    return image_of(volume)


def _from_itk(read: sitk.Image) -> Image:
    array = sitk.GetArrayFromImage(read)
    dimension = read.GetDimension()
    if read.GetNumberOfComponentsPerPixel() > 1:
        colours = array[..., :3].astype(float)
        grey = colours @ LUMINANCE if colours.shape[-1] == 3 else colours[..., 0]
        array = np.rint(grey).astype(array.dtype) if array.dtype.kind in "ui" else grey
    matrix = np.eye(4)
    directions = np.array(read.GetDirection()).reshape(dimension, dimension)
    matrix[:dimension, :dimension] = directions * read.GetSpacing()
    matrix[:dimension, 3] = read.GetOrigin()
    return Image(array[None] if dimension == 2 else array, LPS_TO_RAS @ matrix)


def server_image(volume: slicer.vtkMRMLVolumeNode, server: str) -> str:
    """The id of the volume on this server, empty when it did not come from there."""
    if volume.GetAttribute(SERVER_ATTRIBUTE) != server:
        return ""
    return volume.GetAttribute(IMAGE_ATTRIBUTE) or ""


def mark_server_image(volume: slicer.vtkMRMLVolumeNode, server: str, image: str) -> None:
    volume.SetAttribute(SERVER_ATTRIBUTE, server)
    volume.SetAttribute(IMAGE_ATTRIBUTE, image)


def show(volume: slicer.vtkMRMLVolumeNode | None) -> None:
    """The radiograph fills the slice views, seen from the front."""
    if volume is not None:
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
