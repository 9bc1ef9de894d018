"""PNG in memory, for thumbnails: Qt reads it from bytes on every platform."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def encode(picture: np.ndarray) -> bytes:
    """uint8 `(rows, columns)` grey or `(rows, columns, 3)` RGB as a PNG file."""
    colour = {2: 0, 3: 2}[picture.ndim]
    rows = np.ascontiguousarray(picture, np.uint8).reshape(picture.shape[0], -1)
    # Every row begins with its filter type, 0 = none.
    lines = np.hstack([np.zeros((len(rows), 1), np.uint8), rows]).tobytes()
    head = struct.pack(">2I5B", picture.shape[1], picture.shape[0], 8, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
