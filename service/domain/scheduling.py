"""Which job a worker gets: the next of the project whose turn it is, within what is free, kept and allowed.

A job that needs more devices of a worker than are free there would wait for ever behind smaller ones. So after a while the worker
is kept for it: smaller ones may go on starting there only on as many devices as it will leave over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection, Row

from jobs.ids import new_id
from service.db.queries import claims, reservations, shares, workers
from service.db.transaction import Read
from service.domain import fairness
from service.domain.fairness import Share
from service.domain.instants import microseconds
from service.domain.lifecycle import Change
from service.domain.status_reason import gone_before


@dataclass(frozen=True)
class Room:
    """Devices of a worker.

    Attributes:
        free: held by nobody.
        open: those that any job may take.
        kept: the job that the others are kept for.
    """

    free: int
    open: int
    kept: Row[Any] | None = None


@dataclass(frozen=True)
class Taken:
    """A job that has been claimed, and how many devices it may use."""

    job: Row[Any]
    devices: int


def room_of(connection: Connection, worker: Row[Any], wanted: int, now: int) -> Room:
    """What of a worker's devices can be given out.

    Args:
        connection: a transaction.
        worker: the worker's row.
        wanted: the most that it asks for.
        now: the instant.
    """
    free = min(wanted, worker.device_count, workers.free_devices(connection, worker))
    kept = reservations.of_worker(connection, worker.id)
    if kept is None or kept.available_at > now:
        return Room(free, free)
    return Room(free, _beside(connection, worker, free, kept.devices, kept.made_at), kept)


def _beside(connection: Connection, worker: Row[Any], free: int, kept_devices: int, since: int) -> int:
    """How many devices others may take so that those of before `since` need only end for the kept job to start."""
    left = worker.device_count - kept_devices - reservations.leased_since(connection, worker.id, since)
    return max(0, min(free, left))


def take(change: Change, worker: Row[Any], wanted: int) -> Taken | None:
    """Take the job that this worker should run next; None if there is none for it."""
    room = room_of(change.connection, worker, wanted, change.now)
    if room.free <= 0:
        return None
    if room.kept is not None and (taken := _take_kept(change, worker, room, room.kept)) is not None:
        return taken
    for share in fairness.shares_for(change.connection, worker):
        room = _keep(change, worker, share, room)
        taken = _take_of(change, worker, share, room)
        if taken is not None:
            return taken
    return None


def _take_kept(change: Change, worker: Row[Any], room: Room, kept: Row[Any]) -> Taken | None:
    share = _locked(change, fairness.shares_of(change.connection, [kept.project])[0])
    devices = fairness.budget(change.connection, share, change.now).within(room.free)
    if kept.devices > devices:
        return None
    job = claims.take_this(change.connection, kept.job_id, new_id("att"), change.now)
    return None if job is None else _taken(change, worker, share, job, devices)


def _take_of(change: Change, worker: Row[Any], share: Share, room: Room) -> Taken | None:
    """Take the next job of a project. A project whose row was locked in vain is let go again: two claims could block each other."""
    with change.connection.begin_nested() as trial:
        share = _locked(change, share)
        devices = fairness.budget(change.connection, share, change.now).within(room.open)
        job = claims.take(change.connection, worker, share.project, devices, new_id("att"), change.now) if devices > 0 else None
        if job is None:
            trial.rollback()
            return None
    return _taken(change, worker, share, job, devices)


def _taken(change: Change, worker: Row[Any], share: Share, job: Row[Any], devices: int) -> Taken:
    reservations.drop_of(change.connection, job.id)
    if share.contended:
        shares.note_served(change.connection, share.project)
    # A mesh that takes what there is gets a slot's part; it would leave nothing for the other slots.
    part = -(-worker.device_count // worker.slots)
    return Taken(job, max(job.devices, min(devices, part)))


def _locked(change: Change, share: Share) -> Share:
    """The share as it stands with nobody else claiming for its project, if quotas bound it."""
    if not share.is_limited:
        return share
    shares.lock(change.connection, share.project)
    now = fairness.shares_of(change.connection, [share.project])[0]
    return replace(now, contended=share.contended)


def _keep(change: Change, worker: Row[Any], share: Share, room: Room) -> Room:
    """Keep the worker for the project's next job, if that has waited for long and needs more than is free."""
    if worker.slots == 1 or room.kept is not None:
        return room
    devices = fairness.budget(change.connection, share, change.now).within(worker.device_count)
    first = claims.first(change.connection, worker, share.project, devices)
    patience = microseconds(change.context.settings.reserve_after_seconds)
    if first is None or first.devices <= room.free or first.queued_at + patience > change.now:
        return room
    if reservations.of_job(change.connection, first.id, gone_before(change.context, change.now)) is not None:
        return room
    reservations.make(change.connection, worker.id, first.id, change.now)
    kept = reservations.of_worker(change.connection, worker.id)
    return Room(room.free, _beside(change.connection, worker, room.free, first.devices, change.now), kept)


def would_take(read: Read, worker: Row[Any], wanted: int, now: int) -> bool:
    """Whether a claim would be likely to give this worker a job. Writes and locks nothing."""
    room = room_of(read.connection, worker, wanted, now)
    if room.free <= 0:
        return False
    if room.kept is not None and room.kept.devices <= room.free:
        return True
    for share in fairness.shares_for(read.connection, worker):
        devices = fairness.budget(read.connection, share, now).within(room.open)
        if devices > 0 and claims.first(read.connection, worker, share.project, devices) is not None:
            return True
    return False
