"""Measured figures inside a document: between two lines that say which script writes them."""

from __future__ import annotations

from pathlib import Path

from dino_diffusion.files.atomic import atomic_path

END = "<!-- end of measured -->"


def write_between(path: Path, script: str, text: str) -> None:
    """Replaces what stands between `<!-- measured: SCRIPT -->` and END. Raises SystemExit without them."""
    begin = f"<!-- measured: {script} -->"
    before, mark, rest = path.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{path}: lacks the lines {begin} and {END}; put them where the table belongs.")
    with atomic_path(path) as temporary:
        temporary.write_text(f"{before}{begin}\n{text}\n{END}{after}", encoding="utf-8")
