"""Nodes that may have gone while a request was under way."""

from __future__ import annotations

import slicer


class SceneChanged(Exception):
    """What the work was for is no longer in the scene; the text is one sentence."""


def node_of(node_id: str, what: str) -> slicer.vtkMRMLNode:
    """The node of this id.

    Raises:
        SceneChanged: it was deleted, or the scene was closed.
    """
    node = slicer.mrmlScene.GetNodeByID(node_id) if node_id else None
    if node is None:
        raise SceneChanged(f"The {what} was closed meanwhile, so the result was dropped.")
    return node
