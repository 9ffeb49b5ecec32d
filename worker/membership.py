"""This process as the service knows it: registered once for its life, and anew when the service has forgotten it."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from jobs.protocol import FileStorage, Probe, Register, Registered
from jobs.spec.catalog import load
from worker.api import Service
from worker.backoff import persist
from worker.containment import Containment
from worker.discovery import Found
from worker.machine import host_memory_bytes
from worker.settings import Settings

log = logging.getLogger(__name__)

PLUGINS = "meshyard.models"
"""The group of entry points by which an operator installs models."""

ANY_PLUGIN = "models/plugin"
OWN = "/import"
"""What ends the offer of a model or a loss of a user's own."""


@dataclass(frozen=True)
class Member:
    """One registration.

    Attributes:
        id: the worker's id.
        probe_token: proof that this machine sees the artifact folder; None if it does not.
    """

    id: str
    probe_token: str | None


class Membership:
    """Registers, and keeps the registration.

    Args:
        service: where.
        document: what to say of this process.
        artifact_root: where this machine sees the artifact folder, if elsewhere than the service does.
    """

    def __init__(self, service: Service, document: Register, artifact_root: Path | None) -> None:
        self._service = service
        self._document = document
        self._artifact_root = artifact_root
        self._lock = asyncio.Lock()
        self._member: Member | None = None

    async def current(self) -> Member:
        """The registration, made now if there is none.

        Raises:
            Refused: the service will not have this worker.
        """
        async with self._lock:
            if self._member is None:
                registered = await persist(
                    lambda: self._service.register(self._document), f"registration at {self._service.server}"
                )
                self._member = Member(registered.id, await asyncio.to_thread(self._token, registered))
                log.info("registered as %s, bytes travel %s", self._member.id, self._way())
            return self._member

    @property
    def member_id(self) -> str | None:
        """The worker's id, if there is a registration just now."""
        return self._member.id if self._member is not None else None

    def forget(self, member: Member) -> None:
        """The service does not know this registration any more. The next look makes a new one, however many noticed."""
        if self._member == member:
            self._member = None

    def root(self, storage: FileStorage) -> Path:
        """The artifact folder as this machine sees it."""
        return self._artifact_root or Path(storage.root)

    def _way(self) -> str:
        return "through the artifact folder" if self._member and self._member.probe_token else "through the service"

    def _token(self, registered: Registered) -> str | None:
        probe = registered.probe
        if probe is None:
            return None
        path = self._seen(probe)
        try:
            same = path.read_text() == probe.token
        except (OSError, UnicodeDecodeError):
            return None
        # A folder that can be read and not written is of no use to a child.
        return probe.token if same and os.access(path.parent, os.W_OK | os.X_OK) else None

    def _seen(self, probe: Probe) -> Path:
        path = Path(probe.path)
        return path if self._artifact_root is None else self._artifact_root / path.name


def introduce(settings: Settings, found: Found, containment: Containment) -> Register:
    """What a worker says of itself when it registers."""
    catalog = load()
    plugins = {point.name: point.dist.version if point.dist is not None else "0" for point in entry_points(group=PLUGINS)}
    offers = [offer for offer in catalog.offers() if containment.is_willing or not offer.endswith(OWN)]
    offers = [offer for offer in offers if plugins or offer != ANY_PLUGIN] + [f"plugin:{name}" for name in plugins]
    return Register(
        platform=found.platform,
        device_kind=found.device_kind,
        device_count=found.count,
        memory_bytes=host_memory_bytes(),
        slots=settings.slots,
        labels=dict(settings.labels),
        versions=found.versions | {f"plugin:{name}": version for name, version in plugins.items()},
        catalog_digest=catalog.digest,
        code=containment.told() if containment.mode != "off" else None,
        offers=[*offers, *(f"label:{name}={value}" for name, value in settings.labels.items())],
    )
