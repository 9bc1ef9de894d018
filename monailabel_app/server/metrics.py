"""Numbers for Prometheus: requests, jobs, queue, memory. No label holds anything that names a patient."""

from __future__ import annotations

from collections.abc import Callable

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from monailabel_app.server.jobs.job import Job

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
JOB_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)


class Metrics:
    """One registry a server, so that two in one process do not mix."""

    def __init__(self, queue_length: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dino_requests_total", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "dino_request_seconds", "Time to the end of an answer", ["route"],
            buckets=REQUEST_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.jobs = Counter(
            "dino_jobs_total", "Jobs that ended", ["kind", "model", "state"], registry=self.registry
        )
        self.job_seconds = Histogram(
            "dino_job_seconds", "Running time of jobs", ["kind", "model"],
            buckets=JOB_BUCKETS, registry=self.registry,
        )  # fmt: skip
        Gauge("dino_queue_length", "Jobs that wait", registry=self.registry).set_function(queue_length)
        process = psutil.Process()
        Gauge("dino_memory_bytes", "Resident memory", registry=self.registry).set_function(
            lambda: process.memory_info().rss
        )

    def request_ended(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def job_ended(self, job: Job) -> None:
        self.jobs.labels(job.kind, job.model, job.state.value).inc()
        if job.started is not None and job.ended is not None:
            self.job_seconds.labels(job.kind, job.model).observe(job.ended - job.started)

    def text(self) -> bytes:
        return generate_latest(self.registry)
