"""What a server tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, with a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "pictell_requests", "Requests answered", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "pictell_request_seconds",
            "Duration of caption requests, the upload included",
            buckets=SECONDS,
            registry=registry,
        )
        self.pictures = Counter(
            "pictell_pictures",
            "Pictures by outcome: captioned, or the code of the refusal",
            ["outcome"],
            registry=registry,
        )
        self.batch_pictures = Histogram(
            "pictell_batch_pictures",
            "Pictures that were worked on together",
            buckets=BATCHES,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "pictell_batch_seconds", "Duration of a batch", buckets=SECONDS, registry=registry
        )
        self.pending = Gauge(
            "pictell_pending_pictures", "Pictures in work or waiting", registry=registry
        )

    def watch_pending(self, value: Callable[[], float]) -> None:
        """Read the number of pending pictures when it is asked for."""
        self.pending.set_function(value)

    def observe_batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_pictures.observe(size)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All values in Prometheus' format."""
        return generate_latest(self.registry)
