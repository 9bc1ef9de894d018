"""Labelmaps to segments and back, never touching a segment that somebody made or changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..codec.geometry import Image
from .labels import Label, distinct_colour, named
from .volumes import grid_of

NAME_TAG = "DiNODiffusion.label"
VALUE_TAG = "DiNODiffusion.value"
ABSENT_TAG = "DiNODiffusion.absent"
"""Set where the annotator said that the image shows none of it."""
MADE_TAG = "DiNODiffusion.made"
"""Digest of the pixels as the server gave them: a segment that still has it was not edited."""


def segmentation_for(volume: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLSegmentationNode:
    """A new segmentation on the volume's grid, under the same transform."""
    name = slicer.mrmlScene.GenerateUniqueName(volume.GetName() + " labels")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    return segmentation


def segment_ids(segmentation: slicer.vtkMRMLSegmentationNode | None) -> list[str]:
    if segmentation is None:
        return []
    ids = vtk.vtkStringArray()
    segmentation.GetSegmentation().GetSegmentIDs(ids)
    return [ids.GetValue(index) for index in range(ids.GetNumberOfValues())]


def mask_of(
    segmentation: slicer.vtkMRMLSegmentationNode, segment: str, volume: slicer.vtkMRMLVolumeNode
) -> np.ndarray:
    """The segment on the volume's grid: bool `(slices, rows, columns)`."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, volume)
    if array is None or array.size == 0:
        return np.zeros(grid_of(volume).array.shape, bool)
    return array > 0


def set_mask(
    segmentation: slicer.vtkMRMLSegmentationNode,
    segment: str,
    mask: np.ndarray,
    volume: slicer.vtkMRMLVolumeNode,
) -> None:
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, segment, volume)


def show_mask(
    segmentation: slicer.vtkMRMLSegmentationNode,
    segment: str,
    mask: np.ndarray,
    volume: slicer.vtkMRMLVolumeNode,
) -> None:
    """Like `set_mask` for a segmentation that only shows something: costs as much as the mask's own box."""
    low, high = [0, 0, 0], [0, 0, 0]
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(filled):
            low[axis], high[axis] = int(filled[0]), int(filled[-1])
    box = tuple(slice(first, last + 1) for first, last in zip(low, high))
    image = slicer.vtkOrientedImageData()
    image.SetExtent(low[2], high[2], low[1], high[1], low[0], high[0])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask[box].shape)[:] = mask[box]
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        image, segmentation, segment, slicer.vtkSlicerSegmentationsModuleLogic.MODE_REPLACE
    )


def name_of(segmentation: slicer.vtkMRMLSegmentationNode, segment: str) -> str:
    return segmentation.GetSegmentation().GetSegment(segment).GetName()


def tag_of(segmentation: slicer.vtkMRMLSegmentationNode, segment: str, tag: str) -> str:
    value = vtk.mutable("")
    found = segmentation.GetSegmentation().GetSegment(segment).GetTag(tag, value)
    return str(value) if found else ""


def digest(mask: np.ndarray) -> str:
    return hashlib.sha256(np.packbits(mask).tobytes() + repr(mask.shape).encode()).hexdigest()


def add_labels(
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    array: np.ndarray,
    labels: Iterable[Label],
) -> list[str]:
    """One segment for each label; gives their ids.

    A segment that came from the server under the same name and was not edited since is replaced. All others
    stay as they are, also where the new ones overlap them.
    """
    return [add_label(segmentation, volume, array == label.value, label) for label in labels]


def add_label(
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    mask: np.ndarray,
    label: Label,
) -> str:
    """One label as a segment (see `add_labels`)."""
    segment_id = unedited(segmentation, volume, label.name) or add_empty(segmentation, label)
    set_mask(segmentation, segment_id, mask, volume)
    segmentation.GetSegmentation().GetSegment(segment_id).SetTag(MADE_TAG, digest(mask))
    return segment_id


def add_empty(segmentation: slicer.vtkMRMLSegmentationNode, label: Label) -> str:
    """A segment with the label's name, codes and a colour of its own, and no pixels yet."""
    inner = segmentation.GetSegmentation()
    taken = [inner.GetSegment(other).GetColor() for other in segment_ids(segmentation)]
    colour = distinct_colour(label.colour, taken)
    segment_id = inner.AddEmptySegment("", free_name(segmentation, label.name), colour)
    segment = inner.GetSegment(segment_id)
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), label.terminology)
    segment.SetTag(NAME_TAG, label.name)
    segment.SetTag(VALUE_TAG, str(label.value))
    segment.SetColorAutoGenerated(False)
    segment.SetNameAutoGenerated(False)
    return segment_id


def unedited(
    segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode, name: str
) -> str:
    """The segment of this name that is still as the server made it, or an empty text."""
    for segment in segment_ids(segmentation):
        made = tag_of(segmentation, segment, MADE_TAG)
        same = made and tag_of(segmentation, segment, NAME_TAG) == name
        if same and digest(mask_of(segmentation, segment, volume)) == made:
            return segment
    return ""


def free_name(segmentation: slicer.vtkMRMLSegmentationNode, name: str) -> str:
    """The name, with a number where it is taken."""
    return unique(name, {name_of(segmentation, segment) for segment in segment_ids(segmentation)})


@dataclass
class Layer:
    """A labelmap without overlap, and what its values are called."""

    image: Image
    names: dict[str, int]


FIRST_FREE = 16
"""Values from here on are those of segments that users drew or taught."""


def layers_of(
    segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode, segments: Iterable[str]
) -> list[Layer]:
    """The segments as labelmaps on the volume's grid; overlapping ones come to lie in different layers.

    Nothing is lost: each segment is in exactly one layer, voxel for voxel. Segments keep the value the server
    gave them; others get the next free one.
    """
    grid = grid_of(volume)
    layers: list[Layer] = []
    used: set[int] = set()
    entries = []
    for segment in segments:
        mask = mask_of(segmentation, segment, volume)
        if mask.any():
            value = int(tag_of(segmentation, segment, VALUE_TAG) or 0)
            entries.append((value, name_of(segmentation, segment), mask))
    # Known values first, so that a new segment never takes one that a later segment needs.
    for value, name, mask in sorted(entries, key=lambda entry: (entry[0] == 0, entry[0])):
        if value == 0 or value in used:
            value = max([FIRST_FREE - 1, *(number for number in used if number >= FIRST_FREE)]) + 1
        used.add(value)
        for layer in layers:
            if not layer.image.array[mask].any():
                break
        else:
            layer = Layer(Image(np.zeros(grid.array.shape, np.uint16), grid.ijk_to_ras), {})
            layers.append(layer)
        layer.image.array[mask] = value
        layer.names[unique(name, layer.names)] = value
    for layer in layers:
        if layer.image.array.max() < 256:
            layer.image.array = layer.image.array.astype(np.uint8)
    return layers


def empty_layer(volume: slicer.vtkMRMLVolumeNode) -> Layer:
    """A labelmap of the volume's grid without any label."""
    grid = grid_of(volume)
    return Layer(Image(np.zeros(grid.array.shape, np.uint8), grid.ijk_to_ras), {})


def mark_absent(segmentation: slicer.vtkMRMLSegmentationNode, segment: str) -> None:
    """The image shows none of it; that holds for as long as the segment is empty."""
    segmentation.GetSegmentation().GetSegment(segment).SetTag(ABSENT_TAG, "1")


def absent(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> tuple[str, ...]:
    """Names of the segments that were marked as absent and are empty."""
    return tuple(
        name_of(segmentation, segment)
        for segment in segment_ids(segmentation)
        if tag_of(segmentation, segment, ABSENT_TAG) and not mask_of(segmentation, segment, volume).any()
    )


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where it is taken."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate


def label_named(name: str, value: int = 0) -> Label:
    """A label for a segment that the user names."""
    return named(name, value)
