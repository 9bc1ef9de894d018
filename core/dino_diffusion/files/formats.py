"""Which format a file has, told from its first bytes, and which endings name which format."""

from __future__ import annotations

from pathlib import Path

SUFFIXES: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "nifti": (".nii.gz", ".nii"),
    "nrrd": (".nrrd", ".nhdr"),
    "mha": (".mha", ".mhd"),
    "dicom": (".dcm", ".dicom", ".dic", ".ima"),
}
READABLE = "PNG, JPEG, WebP, TIFF, DICOM, NIfTI, NRRD or MHA"
DICOM_PREAMBLE = 128
NIFTI_MAGIC, NIFTI_MAGIC_AT = (b"n+1\x00", b"n+2\x00"), (344, 4)


def suffix_of(path: Path) -> str:
    """The known ending of a file name, lower case, "" where there is none; dots in a UID are no ending."""
    name = path.name.lower()
    return next((s for group in SUFFIXES.values() for s in group if name.endswith(s)), "")


def format_of_suffix(suffix: str) -> str | None:
    """The format a known ending names."""
    return next((name for name, group in SUFFIXES.items() if suffix in group), None)


def stem_of(path: Path) -> str:
    """File name without its known ending: `a.nii.gz` is `a`, `1.2.840` stays."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix and len(path.name) > len(suffix) else path.name


def format_of_content(head: bytes, suffix: str) -> str | None:
    """The format of a file that begins with `head` (512 bytes); None where it is none that can be read."""
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if head[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[DICOM_PREAMBLE : DICOM_PREAMBLE + 4] == b"DICM":
        return "dicom"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    if head[:4] == b"NRRD":
        return "nrrd"
    if (suffix == ".nii.gz" and head[:2] == b"\x1f\x8b") or any(
        head[at : at + 4] in NIFTI_MAGIC for at in NIFTI_MAGIC_AT
    ):
        return "nifti"
    if suffix in SUFFIXES["mha"] and b"=" in head:
        return "mha"
    # An old DICOM file may lack the preamble: it then begins with a tag of group 0002 or 0008.
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00" and suffix in (*SUFFIXES["dicom"], ""):
        return "dicom"
    return None
