"""The app's own notes about the studies, in one SQLite file: what survives a restart and a kill."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (
    image TEXT PRIMARY KEY, skipped TEXT, review TEXT, comment TEXT, client TEXT, changed REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS leases (
    image TEXT PRIMARY KEY, client TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS scores (
    image TEXT NOT NULL, model TEXT NOT NULL, stamp TEXT NOT NULL, uncertainty REAL, embedding BLOB,
    PRIMARY KEY (image, model)
);
CREATE TABLE IF NOT EXISTS batch (
    image TEXT NOT NULL, work TEXT NOT NULL, stamp TEXT NOT NULL, PRIMARY KEY (image, work)
);
"""


class Database:
    """Every use is one transaction of a connection of its own, so any thread may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as connection:
            connection.executescript(SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits when the block ends well, and is on disk then; nobody else writes meanwhile."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Sees one state of the file, and never waits for a writer."""
        with closing(self._connect()) as connection:
            yield connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection
