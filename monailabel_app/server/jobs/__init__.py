"""Work that takes longer than a request: queued fairly, run one at a time, watched, stopped, kept."""

from monailabel_app.server.jobs.job import Job, State
from monailabel_app.server.jobs.service import Jobs, Lane

__all__ = ["Job", "Jobs", "Lane", "State"]
