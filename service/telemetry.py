"""What one process counts of its own doing. One registry a context: two services in a process share nothing.

Labels come from closed lists, never from a user: no job, name or path becomes a series.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
QUEUE_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)


class Telemetry:
    """Counters and histograms, to be added to from any thread."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._claims = Counter("meshyard_claims", "Claims by what they gave.", ("result",), registry=registry)
        self._claim_seconds = Histogram(
            "meshyard_claim_seconds", "Time of a claim's transaction.", buckets=SECONDS, registry=registry
        )
        self._queued_seconds = Histogram(
            "meshyard_job_queued_seconds", "How long a job waited before it was claimed.", buckets=QUEUE_SECONDS, registry=registry
        )
        self._beats = Counter("meshyard_beats", "Heartbeats by answer.", ("answer",), registry=registry)
        self._points = Counter("meshyard_metric_points", "Points of metrics taken.", registry=registry)
        self._deliveries = Counter("meshyard_webhook_deliveries", "Tries at webhooks by result.", ("result",), registry=registry)
        self._sweeps = Counter("meshyard_background_runs", "Runs of background tasks by end.", ("task", "end"), registry=registry)
        self._sweep_seconds = Histogram(
            "meshyard_background_seconds", "Time of background tasks.", ("task",), buckets=SECONDS, registry=registry
        )
        self._lost = Counter("meshyard_leases_expired", "Attempts ended because their worker fell silent.", registry=registry)
        self._forgotten = Counter("meshyard_forgotten", "What retention let go.", ("kind",), registry=registry)
        self.readers = 0
        Gauge("meshyard_streams", "Readers of event streams and followed logs.", registry=registry).set_function(
            lambda: self.readers
        )

    def reader_came(self) -> None:
        """Count a reader that stays."""
        self.readers += 1

    def reader_went(self) -> None:
        """Count one that has gone."""
        self.readers -= 1

    def claimed(self, result: str, seconds: float) -> None:
        """Count a claim by what it gave, with the time that its transaction took."""
        self._claims.labels(result).inc()
        self._claim_seconds.observe(seconds)

    def started(self, queued_seconds: float) -> None:
        """Note how long a job had been queued when an attempt at it began."""
        self._queued_seconds.observe(queued_seconds)

    def beat(self, answer: str) -> None:
        """Count a heartbeat by what it was told."""
        self._beats.labels(answer).inc()

    def points(self, count: int) -> None:
        """Count points of metrics."""
        self._points.inc(count)

    def delivered(self, result: str) -> None:
        """Count a try at a webhook."""
        self._deliveries.labels(result).inc()

    def ran(self, task: str, seconds: float, *, failed: bool) -> None:
        """Count a run of a background task."""
        self._sweeps.labels(task, "error" if failed else "ok").inc()
        self._sweep_seconds.labels(task).observe(seconds)

    def lost(self, count: int) -> None:
        """Count attempts whose lease ran out."""
        self._lost.inc(count)

    def forgotten(self, kind: str, count: int) -> None:
        """Count what retention let go."""
        if count:
            self._forgotten.labels(kind).inc(count)
