"""What clients may call things: every name that ends in a path or a look-up passes here first.

Each check returns what it was given, or raises HTTPException with one sentence.
"""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

NAME = re.compile(r"[^\W_][\w .()+=@,-]{0,199}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8}){1,2}")
ENDING = re.compile(r"\.?[A-Za-z0-9]{1,8}(\.[A-Za-z0-9]{1,8})?")
SESSION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DEVICE = re.compile(r"cpu|cuda(:\d{1,2})?|mps")
RESERVED = frozenset(
    {"image", "session", "model", "strategy", "method", "file", "path", "save_label", "bundle_path"}
)
"""What a request sets itself; MONAI Label would let params override it."""
DEEPEST = 8
DOTS = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


def new_name(name: str, what: str) -> str:
    """A name a client chooses: letters, digits and a few signs, no way out of a folder."""
    if not NAME.fullmatch(name) or ".." in name or name[-1] in " .":
        raise HTTPException(
            400,
            f"This cannot be the name of {what}: start with a letter or digit and use letters, digits, "
            "spaces and . _ - ( ) + = @ , alone, at most 200.",
        )
    return name


def check_tag(tag: str) -> str:
    """A label's tag, which is a folder's name."""
    if not TAG.fullmatch(tag):
        raise HTTPException(400, "A tag has 1 to 64 letters, digits, _ and -, such as final or original.")
    return tag


def known_image(datastore: Datastore, image: str) -> str:
    """The id of an image of this datastore; nothing else, a path least of all. 404 otherwise."""
    if image not in set(datastore.list_images()):
        raise HTTPException(404, "There is no such image in the datastore; GET /worklist lists them.")
    return image


def check_session(session_id: str) -> str:
    if not SESSION.fullmatch(session_id):
        raise HTTPException(404, "There is no such session; make one with PUT /session/.")
    return session_id


def suffix_of(filename: str | None, default: str) -> str:
    """The ending of an uploaded file's name, such as .nii.gz; the rest of the name is dropped."""
    name = (filename or "").replace("\\", "/").rpartition("/")[2]
    for parts in (2, 1):
        found = "." + ".".join(name.split(".")[-parts:]) if name.count(".") >= parts else ""
        if SUFFIX.fullmatch(found) and (parts == 1 or found.lower().endswith(".gz") or ".seg." in found):
            return found
    return default


def parse_object(text: str | None, what: str) -> dict[str, Any]:
    """A JSON object sent as text."""
    try:
        value = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{what} is no valid JSON.") from error
    if not isinstance(value, dict):
        raise HTTPException(400, f"{what} must be a JSON object, such as {{}}.")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)


def check_params(params: dict[str, Any], reserved: frozenset[str] = RESERVED) -> dict[str, Any]:
    """A request's parameters: none may take the place of what the server sets, none may name a file."""
    taken = sorted(reserved & set(params))
    if taken:
        raise HTTPException(
            400, f"params may not set {', '.join(taken)}: name the image and the model in the request itself."
        )
    _check_strings(params, 0)
    _check_typed(params)
    return params


def _check_typed(params: dict[str, Any]) -> None:
    for name, pattern, sentence in (
        ("result_extension", ENDING, "result_extension is an ending, such as .nii.gz."),
        ("device", DEVICE, "device is cpu, mps, cuda or cuda:0."),
        ("label_tag", TAG, "label_tag is the tag of a label, such as original."),
        ("mask", TAG, "mask is the tag of a label of this image, such as edit."),
    ):
        value = params.get(name)
        if value is not None and not (isinstance(value, str) and (value == "" or pattern.fullmatch(value))):
            raise HTTPException(400, sentence)


def _check_strings(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise HTTPException(400, f"params is nested more than {DEEPEST} deep.")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_strings(key, depth + 1)
            _check_strings(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_strings(inner, depth + 1)
    elif isinstance(value, str) and names_a_file(value):
        raise HTTPException(
            400, "params may not name a file or an address; upload files, or name an image's id."
        )


def names_a_file(text: str) -> bool:
    """Whether `text` could be a path or an address: absolute, from home, upwards, a drive, a URL."""
    return bool(
        text.startswith(("/", "\\", "~"))
        or "\0" in text
        or "://" in text
        or re.match(r"[A-Za-z]:[\\/]", text)
        or text.lower().startswith("file:")
        or DOTS.search(text)
    )
