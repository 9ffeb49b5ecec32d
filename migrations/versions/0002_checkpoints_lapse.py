"""Checkpoints lapse by the job's own rule, beside the expiry that their owner sets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("lapses_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("checkpoints", "lapses_at")
