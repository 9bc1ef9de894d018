"""Labels in the datastore: where they lie and what their values are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore

from dino_diffusion.codes import SEGMENTS
from monailabel_app.lib.errors import NotFound
from monailabel_app.lib.worklist import FINAL


@dataclass(frozen=True)
class StoredLabel:
    """A label of an image. `names`: value by name, as whoever sent it said. `absent`: names of what they said
    is not there to be seen. `time`: when, in seconds."""

    image: str
    path: Path
    names: dict[str, int]
    time: float
    tag: str = FINAL
    absent: tuple[str, ...] = ()

    def lacks(self, name: str) -> bool:
        """Whether somebody said that there is none of `name`, whatever the case. An empty segment alone does
        not: stock clients have one for each label that nobody has touched."""
        return name.strip().casefold() in (text.casefold() for text in self.absent)

    def value_of(self, name: str) -> int | None:
        """By name, whatever the case; of names that nobody said, those of the package; or as a number."""
        wanted = name.strip().casefold()
        known = {segment.name.casefold(): value for value, segment in SEGMENTS.items()}
        known |= {text.casefold(): value for text, value in self.names.items()}
        if wanted in known:
            return known[wanted]
        return int(wanted) if wanted.isdecimal() else None

    def name_of(self, value: int) -> str:
        """What a value is called."""
        said = {number: text for text, number in self.names.items()}
        known = SEGMENTS.get(value)
        return said.get(value) or (known.name if known else f"segment {value}")


def stored_label(datastore: Datastore, image: str, tag: str) -> StoredLabel:
    """Raises NotFound."""
    uri = datastore.get_label_uri(image, tag) if tag in datastore.get_labels_by_image_id(image) else ""
    if not uri or not Path(uri).exists():
        raise NotFound(f"Image '{image}' has no label with the tag '{tag}'.")
    info = datastore.get_label_info(image, tag)
    time = float(info.get("ts") or 0)
    return StoredLabel(image, Path(uri), names_of(info), time, tag, absent_of(info))


def submitted_labels(datastore: Datastore, tag: str = FINAL) -> list[StoredLabel]:
    """All labels of a tag and of its further layers, the oldest first.

    Segments that overlap are submitted in layers, under `final`, `final_2` and so on. Labels whose file is
    gone are left out.
    """
    layer = re.compile(rf"{re.escape(tag)}(_\d+)?")
    found = []
    for image in datastore.list_images():
        for name in datastore.get_labels_by_image_id(image):
            if layer.fullmatch(name):
                with suppress(NotFound):
                    found.append(stored_label(datastore, image, name))
    return sorted(found, key=lambda label: (label.time, label.image, label.tag))


def names_of(info: Mapping[str, Any]) -> dict[str, int]:
    """Values by name from what a client sent along with a label.

    `label_names` as our results have it, or `label_info` as stock clients write it: a list of `name` and
    `idx`, without `idx` in the order of the values.
    """
    for place in _places(info):
        named = place.get("label_names")
        if isinstance(named, Mapping) and named:
            return {str(name): value for name, value in named.items() if type(value) is int}
    listed = info.get("label_info")
    entries = listed if isinstance(listed, list) else []
    names: dict[str, int] = {}
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
            value = entry.get("idx", entry.get("value", number))
            names[entry["name"]] = value if type(value) is int else number
    return names


def absent_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Names in `label_absent`, a list."""
    told = [place.get("label_absent") for place in _places(info)]
    return tuple(str(name) for names in told if isinstance(names, list) for name in names)


def _places(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where clients say things of a label."""
    params = info.get("params")
    return [info, params] if isinstance(params, Mapping) else [info]
