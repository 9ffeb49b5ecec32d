"""When an attempt last moved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("moved_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("leases", "moved_at")
