"""NRRD in memory (https://teem.sourceforge.net/nrrd/format.html): attached data, raw or gzip, 2D or 3D.

Its head holds the geometry as text in full precision, so an image comes back exactly where it was.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from .geometry import Image, NotAnImage, checked_size
from .packing import pack, unpack

NAMES = {
    "u1": ("uint8", "uchar", "unsigned char", "uint8_t"),
    "i1": ("int8", "signed char", "int8_t"),
    "u2": ("uint16", "ushort", "unsigned short", "unsigned short int", "uint16_t"),
    "i2": ("int16", "short", "short int", "signed short", "signed short int", "int16_t"),
    "u4": ("uint32", "uint", "unsigned int", "uint32_t"),
    "i4": ("int32", "int", "signed int", "int32_t"),
    "u8": ("uint64", "unsigned long long", "ulonglong", "unsigned long long int", "uint64_t"),
    "i8": ("int64", "long long", "longlong", "long long int", "int64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
TYPES = {name: kind for kind, names in NAMES.items() for name in names}
SPACES = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
"""What turns each space into RAS."""


def encode(image: Image) -> Generator[None, None, bytes]:
    """The image as a gzip-compressed .nrrd in LPS."""
    array = np.ascontiguousarray(image.array)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    names = NAMES.get(array.dtype.str[1:])
    if names is None:
        raise NotAnImage(f"Voxels of type {array.dtype} cannot be sent.")
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.ijk_to_ras, float)
    # The format stores directions and origin as text; 17 digits bring every double back.
    columns = [_vector(matrix[:3, axis]) for axis in range(3)]
    lines = [
        "NRRD0004",
        f"type: {names[0]}",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(length) for length in array.shape[::-1]),
        "space directions: " + " ".join(columns),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        "space origin: " + _vector(matrix[:3, 3]),
    ]
    head = ("\n".join(lines) + "\n\n").encode("ascii")
    return (yield from pack(head, array.tobytes(), packed_head=False))


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(f"{float(value) + 0.0:.17g}" for value in values) + ")"


def decode(data: bytes) -> Image:
    """Reads a .nrrd file.

    Raises:
        NotAnImage: it is none, refers to another file, or is broken.
    """
    head, gap, body = data.partition(b"\n\n")
    crlf = data.find(b"\r\n\r\n")
    if crlf >= 0 and (not gap or crlf < len(head)):
        head, gap, body = data[:crlf], b"\n\n", data[crlf + 4 :]
    if not data.startswith(b"NRRD") or not gap:
        raise NotAnImage("The data are no NRRD file.")
    fields = {}
    for line in head.decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[name.strip().lower()] = value.lstrip("=").strip()
    try:
        return _image(fields, body)
    except (KeyError, ValueError) as error:
        if isinstance(error, NotAnImage):
            raise
        raise NotAnImage(f"The NRRD file's head is broken ({error}).") from None


def _image(fields: dict[str, str], body: bytes) -> Image:
    if "data file" in fields or "datafile" in fields:
        raise NotAnImage("The NRRD file keeps its data in another file, which is not read.")
    kind = np.dtype(TYPES[fields["type"].lower()])
    if kind.itemsize > 1:
        kind = kind.newbyteorder({"little": "<", "big": ">"}[fields["endian"].lower()])
    sizes = [int(length) for length in fields["sizes"].split()]
    if len(sizes) not in (2, 3):
        raise NotAnImage("The NRRD file has neither two nor three dimensions.")
    shape = (*([1] if len(sizes) == 2 else []), *sizes[::-1])
    size = checked_size(shape, kind.itemsize)
    encoding = fields["encoding"].lower()
    if encoding in ("gzip", "gz"):
        body = unpack(body, size)
    elif encoding != "raw":
        raise NotAnImage(f"The NRRD file is encoded as {encoding}, which is not read.")
    if len(body) < size:
        raise NotAnImage("The NRRD file is cut short.")
    array = np.frombuffer(body, kind, size // kind.itemsize).reshape(shape)
    return Image(array.astype(kind.newbyteorder("="), copy=True), _matrix(fields, len(sizes)))


def _matrix(fields: dict[str, str], dimensions: int) -> np.ndarray:
    matrix = np.eye(4)
    space = fields.get("space", "").lower()
    signs = SPACES.get(space, (-1, -1, 1))
    directions = fields.get("space directions", "").replace(" ", "").strip("()").split(")(")
    vectors = [[float(value) for value in direction.split(",")] for direction in directions if direction]
    if vectors:
        for axis, vector in enumerate(vectors[:3]):
            matrix[: len(vector), axis] = vector
    elif "spacings" in fields:
        for axis, spacing in enumerate(fields["spacings"].split()[:dimensions]):
            matrix[axis, axis] = float(spacing)
    origin = fields.get("space origin", "").strip("() ")
    if origin:
        values = [float(value) for value in origin.split(",")]
        matrix[: len(values), 3] = values
    return np.diag([*signs, 1.0]) @ matrix
