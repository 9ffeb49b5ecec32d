"""Alembic's way in: runs the steps on the connection that it is given."""

from __future__ import annotations

from alembic import context

from service.db.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
