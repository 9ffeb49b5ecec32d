"""Bounds and retention: running sizes of logs, names of series, points of attempts, what has been rolled up and collected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ROLLING = sa.text("finished_at IS NOT NULL AND metrics_rolled_at IS NULL")
THINNING = sa.text("finished_at IS NOT NULL AND metrics_thinned_at IS NULL")
UNCOLLECTED = sa.text("ended_at IS NOT NULL AND collected_at IS NULL")


def upgrade() -> None:
    op.add_column("log_chunks", sa.Column("total", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("metric_chunks", sa.Column("thinned_from", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("points", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("collected_at", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("metrics_rolled_at", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("metrics_thinned_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], unique=False)
    op.create_index("ix_jobs_rolling", "jobs", ["finished_at"], unique=False, sqlite_where=ROLLING, postgresql_where=ROLLING)
    op.create_index("ix_jobs_thinning", "jobs", ["finished_at"], unique=False, sqlite_where=THINNING, postgresql_where=THINNING)
    op.create_index(
        "ix_attempts_uncollected", "attempts", ["ended_at"], unique=False, sqlite_where=UNCOLLECTED, postgresql_where=UNCOLLECTED
    )
    op.create_table(
        "metric_series",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_metric_series_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "digest", name=op.f("pk_metric_series")),
    )


def downgrade() -> None:
    op.drop_table("metric_series")
    op.drop_index("ix_attempts_uncollected", table_name="attempts")
    op.drop_index("ix_jobs_thinning", table_name="jobs")
    op.drop_index("ix_jobs_rolling", table_name="jobs")
    op.drop_index("ix_jobs_finished_at", table_name="jobs")
    op.drop_column("jobs", "metrics_thinned_at")
    op.drop_column("jobs", "metrics_rolled_at")
    op.drop_column("attempts", "collected_at")
    op.drop_column("attempts", "points")
    op.drop_column("metric_chunks", "thinned_from")
    op.drop_column("log_chunks", "total")
