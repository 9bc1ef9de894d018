"""The one secret: made at the first start, kept in a file that only its owner reads."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from dino_diffusion.errors import ConfigurationError

BYTES = 32
SHORTEST = 16


def read_or_make_token(path: Path) -> str:
    """The token in `path`; a new one is written there (mode 600) where the file is missing.

    Raises ConfigurationError for a file that others may read, or that holds no token.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: the token cannot be written here ({error.strerror}).") from error
    token = secrets.token_urlsafe(BYTES)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    return token


def _read(path: Path) -> str:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"{path} holds the token and can be read by others; run chmod 600 on it, "
            "or delete it and a new token is made."
        )
    token = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"{path} holds no token of at least {SHORTEST} letters; delete it and a new one is made."
        )
    return token


def is_token(given: str, token: str) -> bool:
    """Compares in a time that tells nothing about where the two differ."""
    return hmac.compare_digest(given.encode(), token.encode())
