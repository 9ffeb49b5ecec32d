"""What a worker says of how it runs and contains code of users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.add_column("workers", sa.Column("code", DOCUMENT, nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "code")
