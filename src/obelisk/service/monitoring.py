"""What a service counts, in Prometheus' format: requests, latency by stage, batch sizes, verdicts, the queue."""

from __future__ import annotations

import os
from collections.abc import Callable

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""environment variable: the folder in which several worker processes count together"""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServiceMetrics:
    """The counters of one process; :meth:`render` tells those of all workers."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        # The library opens files of the system when it is imported, and looks for MULTIPROCESS.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "obelisk_requests", "Requests, by route and status", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "obelisk_stage_seconds",
            "Seconds of a stage: read (a request's body), wait (for its turn), answer (a batch), request (all of it)",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "obelisk_batch_photos", "Photos answered together", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.answers = Counter(
            "obelisk_answers", "Answers: sure, probable, unknown, or error", ("verdict",), registry=registry
        )
        self.changes = Counter("obelisk_changes", "Changes of the gallery, by kind", ("kind",), registry=registry)
        queue = Gauge(
            "obelisk_queue_photos",
            "Photos that wait or are being answered",
            registry=registry,
            multiprocess_mode="livesum",
        )
        queue.set_function(waiting)

    def observe_batch(self, photos: int, waited: float, seconds: float) -> None:
        """Count a batch of photos, of which the first waited for some seconds."""
        self.batches.observe(photos)
        self.seconds.labels("wait").observe(waited)
        self.seconds.labels("answer").observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """Return all counters as text, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if os.environ.get(MULTIPROCESS):
            registry = CollectorRegistry()
            registry.register(MultiProcessCollector(None))  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
