"""What the whole service shares: built once by `app.py`, passed to everything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from jobs.protocol import Probe
from jobs.tracing import Tracing
from service.db.engine import Database
from service.settings import Settings
from service.signals import QUEUE, Lookout, Signals
from service.storage.store import Store
from service.telemetry import Telemetry


@dataclass(frozen=True)
class Context:
    """Settings, database, artifact store and wake-up calls of one running service.

    `probe`: the file that proves to a worker that it shares the artifact folder; None with an object store.
    """

    settings: Settings
    database: Database
    store: Store
    signals: Signals
    probe: Probe | None = None
    telemetry: Telemetry = field(default_factory=Telemetry)
    tracing: Tracing = field(default_factory=Tracing)

    @cached_property
    def lookout(self) -> Lookout:
        """Through which workers that wait for a job look for one."""
        return Lookout(self.signals, QUEUE, self.settings.poll_seconds)
