"""The worklist: what is to be labelled, by whom, what was skipped and why, what was reviewed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from monailabel_app.lib.database import Database
from monailabel_app.lib.errors import NotFound, RequestError

FINAL = DefaultLabelTag.FINAL.value
APPROVED, FLAGGED = "approved", "flagged"
REVIEWS = (APPROVED, FLAGGED, "")
"""What a review says, in the words of MONAI Label's reviewer module; "" takes it back."""

LEASE_SECONDS = 30 * 60
LONGEST = 1000


@dataclass(frozen=True)
class Entry:
    """One image. `status`: new, labelled, skipped or reviewed (approved). `labels`: tags of its labels.

    A flagged image needs work again: it counts as labelled, and strategies offer it.
    """

    image: str
    status: str
    labels: list[str]
    reason: str | None
    review: str | None
    comment: str | None
    leased_by: str | None
    uncertainty: float | None = None

    @property
    def open(self) -> bool:
        """Whether somebody has to look at it."""
        return self.status == "new" or self.review == FLAGGED


class Worklist:
    """Over a datastore, which knows images and labels, and the database, which knows the rest.

    `datastore`: a function, because the app opens it later. Times are of the wall clock, in seconds.
    """

    def __init__(
        self, database: Database, datastore: Callable[[], Datastore], clock: Callable[[], float] = time.time
    ) -> None:
        self.database, self.datastore, self.clock = database, datastore, clock

    def entries(self, uncertainties: dict[str, float] | None = None) -> list[Entry]:
        """All images, by name; `uncertainties` by image."""
        store = self.datastore()
        with self.database.reading() as connection:
            marks = {row["image"]: row for row in connection.execute("SELECT * FROM marks")}
            leases = {
                row["image"]: row["client"]
                for row in connection.execute("SELECT * FROM leases WHERE until > ?", (self.clock(),))
            }
        labelled = set(store.get_labeled_images())
        found = []
        for image in sorted(store.list_images()):
            tags = sorted({*store.get_labels_by_image_id(image), *([FINAL] if image in labelled else [])})
            found.append(
                _entry(image, tags, marks.get(image), leases.get(image), (uncertainties or {}).get(image))
            )
        return found

    def skip(self, image: str, reason: str, client: str = "") -> None:
        """For `POST /datastore/skip`. Strategies no longer offer the image until a label comes all the same.

        An empty reason takes the skipping back. Raises NotFound and RequestError.
        """
        reason = _line("reason", reason)
        self._check(image)
        with self.database.transaction() as connection:
            _mark(connection, image, self.clock(), client, skipped=reason or None)
            connection.execute("DELETE FROM leases WHERE image = ?", (image,))

    def review(self, image: str, status: str, comment: str = "", client: str = "") -> None:
        """For `POST /datastore/review`: `approved`, `flagged` or "" (see REVIEWS) for the label of an image.

        Raises NotFound and RequestError, also for an image without a label.
        """
        if status not in REVIEWS:
            raise RequestError(f"status={str(status)[:40]!r} is no review: use approved, flagged or nothing.")
        comment = _line("comment", comment)
        self._check(image)
        if status and not self._labelled(image):
            raise RequestError(f"Image '{image}' has no submitted label that could be reviewed.")
        with self.database.transaction() as connection:
            _mark(connection, image, self.clock(), client, review=status or None, comment=comment or None)

    def lease(self, image: str, client: str, seconds: float = LEASE_SECONDS) -> bool:
        """Reserves an image for a client; False where it is reserved already, for whomever."""
        now = self.clock()
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE until <= ?", (now,))
            made = connection.execute(
                "INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?)", (image, client, now, now + seconds)
            )
            return made.rowcount == 1

    def leased_by(self, client: str) -> list[str]:
        """What a client has reserved, the oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT image FROM leases WHERE client = ? AND until > ? ORDER BY since, image",
                (client, self.clock()),
            )
            return [row["image"] for row in rows]

    def release(self, image: str) -> None:
        """Gives an image back, for whoever asks next."""
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE image = ?", (image,))

    def submitted(self, image: str) -> None:
        """A label came: the lease ends, and what was said of the image before its final label is void.

        Labels of other tags, such as edit masks, change nothing.
        """
        store = self.datastore()
        if FINAL not in store.get_labels_by_image_id(image):
            return
        # The datastore counts whole seconds.
        came = float(store.get_label_info(image, FINAL).get("ts") or self.clock()) + 1
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE image = ? AND since < ?", (image, came))
            connection.execute("DELETE FROM marks WHERE image = ? AND changed < ?", (image, came))

    def _labelled(self, image: str) -> bool:
        store = self.datastore()
        return FINAL in store.get_labels_by_image_id(image) or image in store.get_labeled_images()

    def _check(self, image: str) -> None:
        if image not in self.datastore().list_images():
            raise NotFound(f"There is no image '{str(image)[:80]}' in the datastore.")


def free(entries: Iterable[Entry]) -> list[str]:
    """Images that somebody has to look at and nobody does."""
    return [entry.image for entry in entries if entry.open and entry.leased_by is None]


def as_json(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """For `GET /worklist`."""
    return [vars(entry) for entry in entries]


def _entry(
    image: str, tags: list[str], mark: sqlite3.Row | None, leased_by: str | None, uncertainty: float | None
) -> Entry:
    reason, review, comment = (
        (mark["skipped"], mark["review"], mark["comment"]) if mark is not None else (None, None, None)
    )
    if reason:
        status = "skipped"
    elif FINAL not in tags:
        status, review, comment = "new", None, None
    else:
        status = "reviewed" if review == APPROVED else "labelled"
    return Entry(image, status, tags, reason, review, comment, leased_by, uncertainty)


def _mark(connection: sqlite3.Connection, image: str, now: float, client: str, **columns: str | None) -> None:
    values = {"client": client, "changed": now, **columns}
    named, asked = ", ".join(values), ", ".join("?" * len(values))
    update = ", ".join(f"{name} = excluded.{name}" for name in values)
    connection.execute(
        f"INSERT INTO marks (image, {named}) VALUES (?, {asked}) ON CONFLICT (image) DO UPDATE SET {update}",
        (image, *values.values()),
    )


def _line(name: str, given: Any) -> str:
    if not isinstance(given, str) or len(given) > LONGEST:
        raise RequestError(f"The {name} has to be a text of at most {LONGEST} characters.")
    return " ".join(given.split())
