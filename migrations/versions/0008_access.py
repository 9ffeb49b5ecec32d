"""Projects, keys, usage, audit; which key a worker and its attempts belong to."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
ID = sa.String(length=64)


def upgrade() -> None:
    _projects()
    _keys()
    _usage()
    _audit()
    op.add_column("workers", sa.Column("key_id", ID, nullable=True))
    op.add_column("workers", sa.Column("all_projects", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("attempts", sa.Column("key_id", ID, nullable=True))


def _projects() -> None:
    projects = op.create_table(
        "projects",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("weight", sa.Float(), server_default="1", nullable=False),
        sa.Column("max_queued_jobs", sa.BigInteger(), nullable=True),
        sa.Column("max_running_jobs", sa.BigInteger(), nullable=True),
        sa.Column("max_devices", sa.BigInteger(), nullable=True),
        sa.Column("max_device_seconds", sa.Float(), nullable=True),
        sa.Column("device_seconds_period", sa.String(length=8), server_default="total", nullable=False),
        sa.Column("max_stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_index("uq_projects_name", "projects", ["name"], unique=True)
    op.bulk_insert(projects, [{"id": "default", "name": "default", "created_at": time.time_ns() // 1000}])


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("project", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("pepper", sa.String(length=16), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=True),
        sa.Column("previous_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("scopes", DOCUMENT, nullable=False),
        sa.Column("all_projects", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("rotated_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_keys_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
    )
    op.create_index("uq_keys_prefix", "keys", ["prefix"], unique=True)
    op.create_index("ix_keys_project_id", "keys", ["project", "id"], unique=False)


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("project", ID, nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "day", "what", name=op.f("pk_usage")),
    )
    op.create_table(
        "usage_entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("project", ID, nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_entries")),
    )
    op.create_index("ix_usage_entries_project_id", "usage_entries", ["project", "id"], unique=False)


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", ID, nullable=False),
        sa.Column("project", ID, nullable=False),
        sa.Column("key_id", ID, nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("request_id", ID, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("data", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_project_id", "audit", ["project", "id"], unique=False)
    op.create_index("ix_audit_created_at", "audit", ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_column("attempts", "key_id")
    op.drop_column("workers", "all_projects")
    op.drop_column("workers", "key_id")
    for table in ("audit", "usage_entries", "usage", "keys", "projects"):
        op.drop_table(table)
