"""The time, by the database's clock."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection

from service.db.engine import now_us


def now(connection: Connection) -> int:
    """Microseconds since the epoch."""
    return connection.execute(select(now_us())).scalar_one()
