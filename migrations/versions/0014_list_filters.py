"""Lists of jobs: an index for each filter, with what the list is ordered by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_project_kind_id", "jobs", ["project", "kind", "id"])
    for name in ("name", "group_id"):
        some = sa.text(f"{name} IS NOT NULL")
        index = f"ix_jobs_project_{name.removesuffix('_id')}_id"
        op.create_index(index, "jobs", ["project", name, "id"], sqlite_where=some, postgresql_where=some)
    op.create_index("ix_job_labels_key_value_job_id", "job_labels", ["key", sa.text("substr(value, 1, 200)"), "job_id"])
    op.drop_index("ix_jobs_group_id", table_name="jobs")


def downgrade() -> None:
    op.create_index("ix_jobs_group_id", "jobs", ["group_id"])
    op.drop_index("ix_job_labels_key_value_job_id", table_name="job_labels")
    for column in ("group", "name", "kind"):
        op.drop_index(f"ix_jobs_project_{column}_id", table_name="jobs")
