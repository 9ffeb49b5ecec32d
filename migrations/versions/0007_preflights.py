"""Validations that wait for a worker."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "preflights",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=True),
        sa.Column("platform", sa.String(length=200), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("worker_id", sa.String(length=64), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_since", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("resolved_spec", DOCUMENT, nullable=False),
        sa.Column("answer", DOCUMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preflights")),
    )
    op.create_index("ix_preflights_status_id", "preflights", ["status", "id"], unique=False)
    op.create_table(
        "preflight_needs",
        sa.Column("preflight_id", sa.String(length=64), nullable=False),
        sa.Column("need", sa.String(length=400), nullable=False),
        sa.ForeignKeyConstraint(
            ["preflight_id"], ["preflights.id"], name=op.f("fk_preflight_needs_preflight_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("preflight_id", "need", name=op.f("pk_preflight_needs")),
    )


def downgrade() -> None:
    op.drop_table("preflight_needs")
    op.drop_index("ix_preflights_status_id", table_name="preflights")
    op.drop_table("preflights")
