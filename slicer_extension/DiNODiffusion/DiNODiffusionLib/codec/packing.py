"""gzip in small steps, so that the window breathes while a large image is packed."""

from __future__ import annotations

import zlib
from collections.abc import Generator

from .geometry import NotAnImage

PIECE = 1 << 20
FAST = 1
GZIP = 31


def pack(head: bytes, data: bytes, packed_head: bool) -> Generator[None, None, bytes]:
    """gzip of `data`, a piece between two yields; `head` goes before it, packed too when `packed_head`."""
    packer = zlib.compressobj(FAST, zlib.DEFLATED, GZIP)
    out = bytearray(packer.compress(head) if packed_head else head)
    view = memoryview(data)
    for start in range(0, len(view), PIECE):
        out += packer.compress(view[start : start + PIECE])
        yield None
    out += packer.flush()
    return bytes(out)


def first_bytes(data: bytes, count: int) -> bytes:
    """At most `count` bytes from the beginning of a gzip stream; fewer where it is broken."""
    try:
        return zlib.decompressobj(wbits=47).decompress(data, count)
    except zlib.error:
        return b""


def unpack(data: bytes, size: int) -> bytes:
    """Inverse of gzip or zlib, of exactly `size` bytes.

    Raises:
        NotAnImage: the stream is broken, cut short or longer.
    """
    unpacker = zlib.decompressobj(wbits=47)
    try:
        out = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise NotAnImage(f"The image's data are broken ({error}).") from None
    if len(out) > size:
        raise NotAnImage("The image holds more data than its head says.")
    if len(out) < size:
        raise NotAnImage("The image's data are cut short.")
    return out
