"""The choices that belong to the scene, kept in the module's parameter node: a reopened scene continues.

What belongs to the person (server addresses) is in the application's settings; a token is in neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import slicer

DEFAULTS = {
    "zones": False,
    "embeddings": [],
    "strategy": "",
    "task": "inpaint",
    "concepts": {},
    "keep": [],
    "strength": 1.0,
    "feather": 4.0,
    "candidates": 4,
    "seed": 0,
    "image": "",
}
REFERENCES = ("volume", "segmentation", "editor")


class Parameters:
    """Reads and writes a `vtkMRMLScriptedModuleNode`: values by `get` / `set`, nodes by `node` /
    `set_node`."""

    def __init__(self, node: slicer.vtkMRMLScriptedModuleNode) -> None:
        self.mrml = node

    def get(self, name: str):
        """A value of the type of its default."""
        default = DEFAULTS[name]
        text = self.mrml.GetParameter(name)
        if not text:
            return default
        try:
            value = json.loads(text)
        except ValueError:
            return default
        return value if isinstance(value, type(default)) or _number(value, default) else default

    def set(self, name: str, value: object) -> None:
        if name not in DEFAULTS:
            raise KeyError(name)
        if self.get(name) != value:
            self.mrml.SetParameter(name, json.dumps(value))

    def node(self, role: str) -> slicer.vtkMRMLNode | None:
        return self.mrml.GetNodeReference(role)

    def set_node(self, role: str, node: slicer.vtkMRMLNode | None) -> None:
        if role not in REFERENCES:
            raise KeyError(role)
        if self.mrml.GetNodeReferenceID(role) != (node.GetID() if node else None):
            self.mrml.SetNodeReferenceID(role, node.GetID() if node else None)

    def changing(self, change: Callable[[], None]) -> None:
        """Several changes that are told as one."""
        before = self.mrml.StartModify()
        try:
            change()
        finally:
            self.mrml.EndModify(before)


def _number(value: object, default: object) -> bool:
    return (
        isinstance(default, (int, float))
        and isinstance(value, (int, float))
        and not isinstance(default, bool)
    )
