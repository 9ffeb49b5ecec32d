"""Which job is meant: an id, the beginning of one, a name, or `@last`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobs.errors import MeshyardError

if TYPE_CHECKING:
    from meshyard.client import Client
    from meshyard.models import Job

WHOLE_ID = re.compile(r"job_[0-9a-f]{32}")
PREFIX = re.compile(r"(job_)?[0-9a-f]{4,32}")


class NoSuchJob(MeshyardError):
    """Nothing answers to that, or more than one job does."""


def resolve(client: Client, text: str) -> str:
    """The id of the job that is meant, for looking at it: of several with one name, the newest.

    Raises:
        NoSuchJob: there is none, or the text begins several ids.
    """
    return _directly(client, text) or _only(text, _by_name(client, text)[:1] or _by_prefix(client, text))


def resolve_one(client: Client, text: str) -> str:
    """The id of the job that is meant, for doing something to it: of several with one name, the only one that has not ended.

    Raises:
        NoSuchJob: there is none, or several would do.
    """
    return _directly(client, text) or _only(text, _live_or_all(_by_name(client, text)) or _by_prefix(client, text))


def _live_or_all(jobs: list[Job]) -> list[Job]:
    live = [job for job in jobs if not job.is_finished]
    return live if len(live) == 1 else jobs


def _directly(client: Client, text: str) -> str | None:
    if WHOLE_ID.fullmatch(text):
        return text
    return _newest(client) if text == "@last" else None


def _only(text: str, found: list[Job]) -> str:
    if not found:
        raise NoSuchJob(f"no job has the id, a prefix or the name {text!r}; see: meshyard ps -a")
    if len(found) > 1:
        shown = "\n".join(f"  {job.id}  {job.status}  {job.name or ''}" for job in found)
        raise NoSuchJob(f"{text!r} fits more than one job; give an id:\n{shown}")
    return found[0].id


def _newest(client: Client) -> str:
    for job in client.jobs.list(limit=1):
        return job.id
    raise NoSuchJob("there is no job yet")


def _by_name(client: Client, text: str) -> list[Job]:
    return [job for job in client.jobs.list(name=text, limit=10) if job.name == text]


def _by_prefix(client: Client, text: str) -> list[Job]:
    if not PREFIX.fullmatch(text):
        return []
    start, found = text if text.startswith("job_") else f"job_{text}", list["Job"]()
    for job in client.jobs.list():
        if job.id.startswith(start):
            found.append(job)
        if len(found) > 5:
            break
    return found
