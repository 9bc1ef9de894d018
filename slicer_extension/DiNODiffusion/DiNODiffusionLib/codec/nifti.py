"""NIfTI-1 in memory (https://nifti.nimh.nih.gov/nifti-1): single file, gzip or plain, three dimensions."""

from __future__ import annotations

import struct
from collections.abc import Generator

import numpy as np

from .geometry import Image, NotAnImage, checked_size
from .packing import first_bytes, pack, unpack

HEAD, OFFSET = 348, 352
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
CODES = {np.dtype(name): code for code, name in TYPES.items()}
SCANNER = 1


def encode(image: Image) -> Generator[None, None, bytes]:
    """The image as .nii.gz; voxel types that NIfTI lacks become the next wider one.

    Both transforms are written: readers that trust only one of them, ITK among them, get the slices in order
    for left-handed matrices as well.
    """
    array = np.ascontiguousarray(image.array)
    if array.dtype.newbyteorder("=") not in CODES:
        array = array.astype(
            np.uint8 if array.dtype == bool else np.float64 if array.dtype.kind == "f" else np.int32
        )
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    slices, rows, columns = array.shape
    matrix = np.asarray(image.ijk_to_ras, float)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    rotation = matrix[:3, :3] / spacing
    factor = -1.0 if np.linalg.det(rotation) < 0 else 1.0
    rotation = rotation * [1, 1, factor]
    orthogonal = np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-5)
    head = bytearray(OFFSET)
    struct.pack_into("<i", head, 0, HEAD)
    struct.pack_into("<8h", head, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, CODES[array.dtype.newbyteorder("=")], array.dtype.itemsize * 8)
    struct.pack_into("<8f", head, 76, factor, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", head, 108, OFFSET, 1.0, 0.0)
    head[123] = 2
    struct.pack_into("<2h", head, 252, SCANNER if orthogonal else 0, SCANNER)
    struct.pack_into("<6f", head, 256, *quaternion(rotation), *matrix[:3, 3])
    struct.pack_into("<12f", head, 280, *matrix[:3].ravel())
    head[344:348] = b"n+1\0"
    return (yield from pack(bytes(head), array.tobytes(), packed_head=True))


def decode(data: bytes) -> Image:
    """Reads .nii or .nii.gz.

    Raises:
        NotAnImage: it is no single-file NIfTI of three dimensions, or broken.
    """
    packed = data[:2] == b"\x1f\x8b"
    plain = first_bytes(data, OFFSET) if packed else data
    if len(plain) < OFFSET or plain[344:347] != b"n+1":
        raise NotAnImage("The data are no NIfTI file.")
    order = "<" if struct.unpack_from("<i", plain, 0)[0] == HEAD else ">"
    count, *lengths = struct.unpack_from(order + "8h", plain, 40)
    if not 2 <= count <= 7 or any(length > 1 for length in lengths[3:count]):
        raise NotAnImage("The NIfTI file has more than three dimensions.")
    shape = tuple(lengths[2::-1]) if count > 2 else (1, lengths[1], lengths[0])
    code = struct.unpack_from(order + "h", plain, 70)[0]
    if code not in TYPES:
        raise NotAnImage(f"The NIfTI file has voxels of type {code}, which is not read.")
    kind = np.dtype(TYPES[code]).newbyteorder(order)
    start, slope, intercept = struct.unpack_from(order + "3f", plain, 108)
    size = checked_size(shape, kind.itemsize)
    if packed:
        plain = unpack(data, int(start) + size)
    if start < OFFSET or len(plain) < int(start) + size:
        raise NotAnImage("The NIfTI file is cut short.")
    array = np.frombuffer(plain, kind, size // kind.itemsize, int(start)).reshape(shape)
    array = array.astype(kind.newbyteorder("="), copy=True)
    if slope not in (0.0, 1.0) or (slope == 1.0 and intercept):
        array = array * slope + intercept
    return Image(array, _matrix(plain, order))


def _matrix(plain: bytes, order: str) -> np.ndarray:
    factor, *spacing = struct.unpack_from(order + "4f", plain, 76)
    qform, sform = struct.unpack_from(order + "2h", plain, 252)
    matrix = np.eye(4)
    if sform > 0:
        matrix[:3] = np.array(struct.unpack_from(order + "12f", plain, 280)).reshape(3, 4)
    elif qform > 0:
        b, c, d, *shift = struct.unpack_from(order + "6f", plain, 256)
        matrix[:3, :3] = rotation_of(b, c, d) * [
            spacing[0],
            spacing[1],
            spacing[2] * (-1 if factor < 0 else 1),
        ]
        matrix[:3, 3] = shift
    else:
        matrix[:3, :3] = np.diag([value or 1.0 for value in spacing])
    return matrix


def quaternion(rotation: np.ndarray) -> tuple[float, float, float]:
    """b, c, d of a proper rotation (3, 3), with a >= 0, as the qform stores it."""
    m = np.asarray(rotation, float)
    squares = np.array(
        [1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
         1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2]]
    )  # fmt: skip
    largest = int(squares.argmax())
    root = 2.0 * np.sqrt(max(squares[largest], 0.0))
    sums = (m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2])
    turns = (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1])
    table = (
        (
            (root / 4, turns[0] / root, turns[1] / root, turns[2] / root),
            (turns[0] / root, root / 4, sums[0] / root, sums[1] / root),
            (turns[1] / root, sums[0] / root, root / 4, sums[2] / root),
            (turns[2] / root, sums[1] / root, sums[2] / root, root / 4),
        )
        if root
        else ((1.0, 0.0, 0.0, 0.0),) * 4
    )
    a, b, c, d = table[largest]
    sign = -1.0 if a < 0 else 1.0
    return sign * b, sign * c, sign * d


def rotation_of(b: float, c: float, d: float) -> np.ndarray:
    """The rotation (3, 3) of a stored quaternion."""
    a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
