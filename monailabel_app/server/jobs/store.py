"""Jobs on disk: SQLite, so that a finished result is still there after a restart."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path

from dino_diffusion.errors import ConfigurationError
from monailabel_app.server.jobs.job import Job, State

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, client TEXT NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL, image TEXT,
  state TEXT NOT NULL, progress REAL NOT NULL, message TEXT NOT NULL, created REAL NOT NULL, started REAL,
  ended REAL, error TEXT, status INTEGER NOT NULL, params TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_of_client ON jobs (client, created);
"""
COLUMNS = (
    "id", "client", "kind", "model", "image", "state", "progress", "message", "created", "started", "ended",
    "error", "status",
)  # fmt: skip
INTERRUPTED = "The server stopped before this job ended; submit it again."


class JobStore:
    """Thread-safe. Raises ConfigurationError for a database that another server holds or that is broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(SCHEMA)
            with self._database:
                self._database.execute(
                    "UPDATE jobs SET state = ?, error = ?, status = 503, ended = ? WHERE state IN (?, ?)",
                    (State.FAILED, INTERRUPTED, time.time(), State.QUEUED, State.RUNNING),
                )
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"{folder / 'jobs.sqlite'} cannot be used ({error}); end the other server that uses it, "
                "or move the file away."
            ) from error

    def save(self, job: Job) -> None:
        """As it stands now; on disk when this returns."""
        values = [getattr(job, name) for name in COLUMNS]
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        with self._lock, self._database:
            self._database.execute(
                f"INSERT OR REPLACE INTO jobs ({', '.join(COLUMNS)}, params) VALUES ({marks})",
                (*values, json.dumps(job.params)),
            )

    def load(self, job_id: str) -> Job | None:
        with self._lock:
            row = self._database.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return self._job(row) if row else None

    def of_client(self, client: str, limit: int = 200) -> list[Job]:
        """Newest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT * FROM jobs WHERE client = ? ORDER BY created DESC LIMIT ?", (client, limit)
            ).fetchall()
        return [self._job(row) for row in rows]

    def of_kind(self, kind: str, limit: int = 200) -> list[Job]:
        """Newest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT * FROM jobs WHERE kind = ? ORDER BY created DESC LIMIT ?", (kind, limit)
            ).fetchall()
        return [self._job(row) for row in rows]

    def remove(self, job_id: str) -> None:
        with self._lock, self._database:
            self._database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def ended_before(self, moment: float) -> list[Job]:
        with self._lock:
            rows = self._database.execute("SELECT * FROM jobs WHERE ended < ?", (moment,)).fetchall()
        return [self._job(row) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _job(self, row: sqlite3.Row) -> Job:
        values = {name: row[name] for name in COLUMNS}
        job = Job(**{**values, "state": State(row["state"])}, folder=self.folder / row["id"])
        job.params = json.loads(row["params"])
        return job
