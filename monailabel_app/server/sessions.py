"""Sessions that nobody uses any more are removed, with the radiographs in them.

MONAI Label's own cleaner ends with an error, for good, at the first folder that has no record: one that is
just being made, or that a killed server left behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from pathlib import Path

from monailabel.utils.sessions import Sessions

logger = logging.getLogger(__name__)
EVERY_SECONDS = 300.0
UNFINISHED_SECONDS = 3600.0
"""How old a folder without a record has to be: a younger one may be an upload in work."""


async def keep_clean(sessions: Sessions) -> None:
    """For as long as the server runs."""
    while True:
        try:
            await asyncio.to_thread(remove_expired, sessions)
        except OSError as error:
            logger.warning("sessions were not cleaned: %s", type(error).__name__)
        await asyncio.sleep(EVERY_SECONDS)


def remove_expired(sessions: Sessions, unfinished: float = UNFINISHED_SECONDS) -> int:
    """Removes what has expired and what was never finished; how many. See UNFINISHED_SECONDS."""
    store = Path(sessions.store_path)
    old = [folder for folder in _folders(store) if _is_old(folder, unfinished)]
    for folder in old:
        sessions.pop(folder.name, None)
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)


def _folders(store: Path) -> list[Path]:
    return [path for path in store.iterdir() if path.is_dir()] if store.is_dir() else []


def _is_old(folder: Path, unfinished: float) -> bool:
    try:
        record = json.loads((folder / "meta.info").read_text())
        return bool(record["last_access_ts"] + record["expiry"] < time.time())
    except (OSError, ValueError, KeyError, TypeError):
        # No record yet, or one that is just being written anew, as with every use.
        return folder.is_dir() and folder.stat().st_mtime + unfinished <= time.time()
