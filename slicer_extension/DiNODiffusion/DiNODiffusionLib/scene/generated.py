"""Generated images in the scene: a new volume with its mask and its recipe; the original stays as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import slicer

from ..codec.geometry import Image
from ..net.client import Result
from ..net.errors import BadAnswer
from .labels import Label
from .segments import add_label, segmentation_for
from .volumes import add_volume, matrix_of, onto, read_image

RECIPE_ATTRIBUTE = "DiNODiffusion.recipe"
MASK_ROLE = "DiNODiffusion.mask"
SYNTHETIC_ATTRIBUTE = "DiNODiffusion.synthetic"
EDITED = Label("edited area", 1, ("SCT", "49755003", "Morphologically abnormal structure"))


@dataclass
class Candidate:
    """One generated image on the grid of its source; `mask` is where it may differ, None for everywhere."""

    array: np.ndarray
    mask: np.ndarray | None
    recipe: dict = field(repr=False)
    title: str = ""

    def untouched(self, source: np.ndarray) -> bool:
        """Whether every pixel outside the mask is bit-identical to the source's."""
        if self.mask is None:
            return False
        outside = ~self.mask
        return bool(np.array_equal(self.array[outside], source[outside]))


def candidates_of(result: Result, volume: slicer.vtkMRMLVolumeNode) -> list[Candidate]:
    """The candidates of a finished job on the volume's grid.

    Raises:
        BadAnswer: a file that the result names did not come.
    """
    told = result.params.get("candidates")
    if not told:
        told = [{"id": next(iter(result.files), "")}]
    found = []
    for number, entry in enumerate(told, start=1):
        array = onto(volume, _read(result, entry.get("image") or entry.get("id")))
        mask_id = entry.get("mask_id")
        mask = onto(volume, _read(result, mask_id)) > 0 if mask_id else None
        recipe = entry.get("recipe")
        if isinstance(recipe, str) and recipe in result.files:
            recipe = json.loads(result.files[recipe])
        found.append(Candidate(array, mask, recipe if isinstance(recipe, dict) else {}, f"{number}"))
    return found


def _read(result: Result, wanted: object) -> Image:
    """The image of this name; names may leave out the suffix."""
    for name, content in result.files.items():
        if name == wanted or name.partition(".")[0] == wanted:
            return read_image(content, name)
    raise BadAnswer(f"The server names the file {wanted} and did not send it.")


def keep(
    candidate: Candidate, volume: slicer.vtkMRMLVolumeNode, title: str
) -> slicer.vtkMRMLScalarVolumeNode:
    """The candidate as a new volume beside its source, with its mask as ground truth and its recipe."""
    source = slicer.util.arrayFromVolume(volume)
    array = candidate.array
    if (
        array.dtype != source.dtype
        and source.ndim == array.ndim
        and np.array_equal(array, array.astype(source.dtype))
    ):
        array = array.astype(source.dtype)
    made = add_volume(Image(array, matrix_of(volume)), f"{volume.GetName()} {title}")
    made.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    made.SetAttribute(SYNTHETIC_ATTRIBUTE, "1")
    made.SetAttribute(RECIPE_ATTRIBUTE, json.dumps(candidate.recipe, sort_keys=True))
    _copy_window(volume, made)
    text = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", made.GetName() + " recipe")
    text.SetText(json.dumps(candidate.recipe, indent=1, sort_keys=True))
    made.SetNodeReferenceID(RECIPE_ATTRIBUTE, text.GetID())
    if candidate.mask is not None:
        segmentation = segmentation_for(made)
        add_label(segmentation, made, candidate.mask, EDITED)
        # It would lie over the original; it is shown when the new volume is chosen.
        segmentation.SetDisplayVisibility(False)
        made.SetNodeReferenceID(MASK_ROLE, segmentation.GetID())
    return made


def take_back(made: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Removes a kept candidate with its mask and recipe."""
    for role in (MASK_ROLE, RECIPE_ATTRIBUTE):
        node = made.GetNodeReference(role)
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)
    slicer.mrmlScene.RemoveNode(made)


def _copy_window(source: slicer.vtkMRMLVolumeNode, made: slicer.vtkMRMLVolumeNode) -> None:
    """Both look alike, so that what differs is the picture and not its display."""
    old, new = source.GetDisplayNode(), made.GetDisplayNode()
    if old is None or new is None or not hasattr(old, "GetWindow"):
        return
    new.AutoWindowLevelOff()
    new.SetWindow(old.GetWindow())
    new.SetLevel(old.GetLevel())
