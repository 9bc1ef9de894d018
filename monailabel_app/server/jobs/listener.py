"""What a running job reports goes into the job; a wish to stop goes out of it."""

from __future__ import annotations

import io
import time

from PIL.Image import Image

from dino_diffusion.errors import Cancelled
from monailabel_app.server.jobs.job import Job

PREVIEW_EVERY = 0.3
"""Seconds between pictures: drawing each step's would cost more than it tells."""
PREVIEW_SIZE = 256


class JobProgress:
    """A `monailabel_app.progress.Progress` for a job. Raises Cancelled at the first report after a cancel."""

    def __init__(self, job: Job) -> None:
        self._job, self._drawn = job, 0.0

    def report(self, done: float, message: str = "", preview: Image | None = None) -> None:
        job = self._job
        if job.cancel_wanted.is_set():
            raise Cancelled(f"Job {job.id} was cancelled.")
        # Progress that ran backwards would read as a fault.
        job.progress = max(job.progress, min(1.0, float(done)))
        job.message = message or job.message
        if preview is not None and time.monotonic() - self._drawn >= PREVIEW_EVERY:
            job.preview = as_png(preview)
            self._drawn = time.monotonic()
        job.changed()


def as_png(picture: Image) -> bytes:
    """At most PREVIEW_SIZE pixels a side."""
    small = picture.copy() if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGB")
    small.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
    held = io.BytesIO()
    small.save(held, "PNG", compress_level=1)
    return held.getvalue()
