"""Files appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dino_diffusion.errors import RadiographError
from dino_diffusion.files.checks import check_name
from dino_diffusion.files.formats import suffix_of


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its ending; moved onto `path` when the block ends well.

    The folder is made where it is missing. On any failure nothing is left behind and what was at `path`
    stays. Raises RadiographError where the folder cannot be written to or the disk is full, and for a name
    that is no UTF-8.
    """
    check_name(path)
    # The whole name may be as long as the file system allows; the writers only look at the ending.
    temporary = path.with_name(f".{uuid.uuid4().hex}{suffix_of(path) or path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "the writer failed"
        raise RadiographError(
            f"{path}: cannot be written ({reason}); choose a folder that is writable and has room."
        ) from error
    finally:
        # Inside a path whose parent is a file, or a folder that is gone, there is nothing to remove.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def all_or_none() -> Iterator[list[Path]]:
    """Files that belong together: those in the list are removed again should the block not end well."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
