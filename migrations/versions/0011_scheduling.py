"""Turns in the queue, shares of projects, devices kept free for large jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ID = sa.String(length=64)
QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False))
    op.execute("UPDATE jobs SET turn = created_at - priority * 600000000")
    op.drop_index("ix_jobs_claim", table_name="jobs")
    op.create_index("ix_jobs_turn", "jobs", ["project", "turn", "id"], sqlite_where=QUEUED, postgresql_where=QUEUED)
    op.add_column("leases", sa.Column("project", ID, nullable=True))
    op.execute("UPDATE leases SET project = (SELECT jobs.project FROM jobs WHERE jobs.id = leases.job_id)")
    op.add_column("projects", sa.Column("served_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "reservations",
        sa.Column("worker_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reservations_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_reservations_worker_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_reservations")),
    )
    op.create_index("ix_reservations_job_id", "reservations", ["job_id"], unique=False)


def downgrade() -> None:
    op.drop_table("reservations")
    op.drop_column("projects", "served_at")
    op.drop_column("leases", "project")
    op.drop_index("ix_jobs_turn", table_name="jobs")
    op.create_index("ix_jobs_claim", "jobs", [sa.text("priority DESC"), "id"], sqlite_where=QUEUED, postgresql_where=QUEUED)
    op.drop_column("jobs", "turn")
