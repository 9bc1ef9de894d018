"""Any image file that a server may send, told by its first bytes."""

from __future__ import annotations

from . import nifti, nrrd
from .geometry import Image, NotAnImage


def decode(data: bytes) -> Image:
    """Reads NRRD, NIfTI and NIfTI packed by gzip.

    Raises:
        NotAnImage: it is something else; other formats are left to Slicer's own readers.
    """
    if data.startswith(b"NRRD"):
        return nrrd.decode(data)
    if data[:2] == b"\x1f\x8b" or data[344:347] == b"n+1":
        return nifti.decode(data)
    raise NotAnImage("The server sent an image that is neither NRRD nor NIfTI.")
