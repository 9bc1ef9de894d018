"""What belongs to the person and not to the scene: server addresses. A token is never kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import qt

from .net.errors import ServerError

LAST = 10
ADDRESSES = "DiNODiffusion/addresses"
CERTIFICATE = "DiNODiffusion/certificate"
DEFAULT_ADDRESS = "http://127.0.0.1:8000"


def addresses() -> list[str]:
    """The last servers, the newest first."""
    text = qt.QSettings().value(ADDRESSES, "")
    return [line for line in str(text or "").split("\n") if line] or [DEFAULT_ADDRESS]


def remember(address: str) -> None:
    known = [address, *(other for other in addresses() if other != address)]
    qt.QSettings().setValue(ADDRESSES, "\n".join(known[:LAST]))


def certificate() -> str:
    """The file of a private authority that was chosen."""
    return str(qt.QSettings().value(CERTIFICATE, "") or "")


def remember_certificate(path: str) -> None:
    qt.QSettings().setValue(CERTIFICATE, path)


def state_folder() -> Path:
    """Where a server that this person started keeps its token, unless it was told otherwise."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "dino-diffusion"


def read_token_file(path: str) -> str:
    """The token that a server on this machine wrote for its owner.

    Raises:
        ServerError: the file is not there, or holds something else.
    """
    file = Path(path).expanduser()
    try:
        if not stat.S_ISREG(file.stat().st_mode) or file.stat().st_size > 4096:
            raise ServerError(f"{path} is no token file.")
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ServerError(f"The token file {path} cannot be read ({reason}).") from None
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise ServerError(f"{path} is no token file.")
    return token
