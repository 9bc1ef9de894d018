"""Files appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dino_diffusion.errors import RadiographError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its ending; moved onto `path` when the block ends well.

    The folder is made where it is missing. On any failure nothing is left behind and what was at `path`
    stays. Raises RadiographError where the folder cannot be written to or the disk is full.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
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
