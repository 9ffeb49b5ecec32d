"""A request told twice under one key is done once, and answered twice with the same answer."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.engine import Connection, Row

from service.db.queries import idempotency as queries
from service.domain.errors import Invalid

KEY = re.compile(r"[\x20-\x7e]{1,255}")


class KeyReused(Invalid):
    """The key was used for another request."""

    code = "idempotency_key_reused"


@dataclass(frozen=True)
class Answer:
    """An answer that can be kept: status and document; `replayed` when it was given before."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True)
class Ticket:
    """A request's claim to be done once. Without a key it is done each time."""

    project: str
    route: str
    key: str | None
    body_sha256: str


def ticket(project: str, route: str, key: str | None, document: Any) -> Ticket:
    """Make the ticket of a request; how its JSON is laid out does not matter.

    Raises:
        Invalid: the key is not 1 to 255 printable ASCII characters.
    """
    if key is not None and not KEY.fullmatch(key):
        raise Invalid("Idempotency-Key must be 1 to 255 printable ASCII characters.")
    body = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return Ticket(project, route, key, hashlib.sha256(body).hexdigest())


def look(connection: Connection, wanted: Ticket) -> Answer | None:
    """The answer given before, if any, without taking the key.

    Raises:
        KeyReused: it was the answer to another request.
    """
    if wanted.key is None:
        return None
    row = queries.find(connection, wanted.project, wanted.route, wanted.key)
    return None if row is None else _again(row, wanted)


def take(connection: Connection, wanted: Ticket) -> Answer | None:
    """Take the key for this transaction; where it is taken, the answer given before.

    Raises:
        KeyReused: it was the answer to another request.
    """
    if wanted.key is None or queries.take(connection, wanted.project, wanted.route, wanted.key, wanted.body_sha256):
        return None
    return look(connection, wanted)


def keep(connection: Connection, wanted: Ticket, answer: Answer) -> Answer:
    """Keep the answer under the ticket's key, if it has one."""
    if wanted.key is not None:
        queries.keep(connection, wanted.project, wanted.route, wanted.key, answer.status, answer.body)
    return answer


def _again(row: Row[Any], wanted: Ticket) -> Answer:
    if row.body_sha256 != wanted.body_sha256:
        raise KeyReused("This Idempotency-Key was used for another request; choose a new one.")
    return Answer(row.status, row.response, replayed=True)
