"""Every table of the service. Instants are microseconds since the epoch by the database's own clock (`engine.now_us`)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Instant = BigInteger
Id = String(64)

projects = Table(
    "projects",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("weight", Float, nullable=False, server_default="1"),  # its share beside the others'
    # Quotas; null: none.
    Column("max_queued_jobs", BigInteger),
    Column("max_running_jobs", BigInteger),
    Column("max_devices", BigInteger),  # held at once, by all of its jobs
    Column("max_device_seconds", Float),
    Column("device_seconds_period", String(8), nullable=False, server_default="total"),  # day, month, total
    Column("max_stored_bytes", BigInteger),
    Column("created_at", Instant, nullable=False),
    Column("served_at", Instant),  # when a job of it was claimed last while others waited too
    Index("uq_projects_name", "name", unique=True),
)
"""Whom everything belongs to. `default` is always there."""

keys = Table(
    "keys",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text),
    Column("prefix", String(16), nullable=False),  # the part of a key that is no secret: by it the row is found
    Column("hash", String(64), nullable=False),  # HMAC-SHA-256 of the whole key under the pepper
    Column("pepper", String(16), nullable=False),  # which pepper that was
    Column("previous_hash", String(64)),  # of the secret before the last rotation
    Column("previous_expires_at", Instant),
    Column("scopes", Document, nullable=False),
    Column("all_projects", Boolean, nullable=False),  # a worker's: takes everybody's jobs; an administrator's: of the whole service
    Column("created_at", Instant, nullable=False),
    Column("rotated_at", Instant),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
    Index("uq_keys_prefix", "prefix", unique=True),
    Index("ix_keys_project_id", "project", "id"),
)

usage = Table(
    "usage",
    METADATA,
    Column("project", Id, primary_key=True),
    Column("day", String(10), primary_key=True),  # 2026-11-23, UTC
    Column("what", String(32), primary_key=True),  # device_seconds, jobs_submitted, …; stored_bytes is the last known
    Column("amount", Float, nullable=False),
)
"""What each project has used, by day."""

usage_entries = Table(
    "usage_entries",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("project", Id, nullable=False),
    Column("day", String(10), nullable=False),
    Column("what", String(32), nullable=False),
    Column("amount", Float, nullable=False),
    Index("ix_usage_entries_project_id", "project", "id"),
)
"""Usage that is not yet in `usage`: added by the transaction that spends it, folded in later, so that no two wait for one row."""

audit = Table(
    "audit",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, nullable=False),
    Column("key_id", Id, nullable=False),  # whose key; `bootstrap` and `local` have no row
    Column("action", String(100), nullable=False),  # the operation's name
    Column("target", Text, nullable=False),  # the path it was asked on
    Column("request_id", Id, nullable=False),
    Column("address", String(64)),
    Column("created_at", Instant, nullable=False),
    Column("data", Document, nullable=False),
    Index("ix_audit_project_id", "project", "id"),
    Index("ix_audit_created_at", "created_at"),
)
"""What people have changed, and under which key."""

jobs = Table(
    "jobs",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", Text),
    Column("metadata", Document, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("spec_version", Integer, nullable=False),
    Column("dataset_id", Id),
    Column("parent_id", Id),
    Column("parent_relation", String(16)),
    Column("group_id", Id),
    # The checkpoint of another job that it starts from, which must not go while this one lives.
    Column("init_from_job", Id),
    Column("init_from_step", BigInteger),
    # What a worker must have. `devices` is the least number; with `devices_open` more are used if they are free.
    Column("platform", String(200), nullable=False),
    Column("devices", Integer, nullable=False),
    Column("devices_open", Boolean, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False, server_default="0"),
    Column("timeout_seconds", Float),
    # Where it stands.
    Column("status", String(16), nullable=False),
    Column("phase", String(32)),
    Column("step", BigInteger, nullable=False, server_default="0"),
    Column("total", BigInteger, nullable=False),
    Column("unit", String(16), nullable=False),
    Column("error", Document),
    Column("queued_at", Instant, nullable=False),
    Column("available_at", Instant, nullable=False),
    Column("turn", Instant, nullable=False, server_default="0"),  # when it came, put back by its priority: the lower, the sooner
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    # The attempt that holds it, and what has been asked of that attempt.
    Column("attempt_id", Id),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("command", String(16)),
    Column("command_save", Boolean, nullable=False, server_default=text("true")),
    Column("command_sequence", Integer, nullable=False, server_default="0"),
    # The place in a trace from which it was asked for (W3C Trace Context).
    Column("traceparent", String(64)),
    Column("profile", Document),  # {sequence, num_steps, memory} of a trace that was asked for and has not begun
    # What it has spent.
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("infra_retries", Integer, nullable=False, server_default="0"),
    Column("running_seconds", Float, nullable=False, server_default="0"),
    # Counters of what hangs on it.
    Column("event_seq", BigInteger, nullable=False, server_default="0"),
    Column("metrics_rolled_at", Instant),
    Column("metrics_thinned_at", Instant),
    # Last, for they can be large: SQLite reads past them to get at what stands behind.
    Column("spec", Document, nullable=False),
    Column("resolved_spec", Document, nullable=False),
    Column("result", Document),
    Index("ix_jobs_project_id", "project", "id"),
    Index("ix_jobs_project_status_id", "project", "status", "id"),
    # A list's filters, each with what it is ordered by: what matches seldom must not be looked for in the whole history.
    Index("ix_jobs_project_kind_id", "project", "kind", "id"),
    Index(
        "ix_jobs_project_name_id",
        "project",
        "name",
        "id",
        sqlite_where=text("name IS NOT NULL"),
        postgresql_where=text("name IS NOT NULL"),
    ),
    Index(
        "ix_jobs_project_group_id",
        "project",
        "group_id",
        "id",
        sqlite_where=text("group_id IS NOT NULL"),
        postgresql_where=text("group_id IS NOT NULL"),
    ),
    Index("ix_jobs_init_from_job", "init_from_job"),
    Index("ix_jobs_finished_at", "finished_at"),
    Index(
        "ix_jobs_thinning",
        "finished_at",
        sqlite_where=text("finished_at IS NOT NULL AND metrics_thinned_at IS NULL"),
        postgresql_where=text("finished_at IS NOT NULL AND metrics_thinned_at IS NULL"),
    ),
    Index(
        "ix_jobs_rolling",
        "finished_at",
        sqlite_where=text("finished_at IS NOT NULL AND metrics_rolled_at IS NULL"),
        postgresql_where=text("finished_at IS NOT NULL AND metrics_rolled_at IS NULL"),
    ),
    # Claims read only queued jobs, in their turn; the index holds nothing else, so that history costs nothing.
    Index(
        "ix_jobs_turn",
        "project",
        "turn",
        "id",
        sqlite_where=text("status = 'queued'"),
        postgresql_where=text("status = 'queued'"),
    ),
)

INDEXED = 200
"""So many characters of a label's value are indexed."""

job_labels = Table(
    "job_labels",
    METADATA,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("value", Text, nullable=False),
    # By how a value begins: PostgreSQL indexes no text of any length.
    Index("ix_job_labels_key_value_job_id", "key", text(f"substr(value, 1, {INDEXED})"), "job_id"),
)
"""The job's `metadata` once more, a row an entry: lists filter by it, and the two databases agree on rows but not on JSON paths."""

job_needs = Table(
    "job_needs",
    METADATA,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("need", String(400), primary_key=True),
)
"""What a worker must offer to run a job: `models/transformer`, `label:gpu=h200`."""

preflights = Table(
    "preflights",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, nullable=False),
    Column("level", String(16), nullable=False),
    Column("dataset_id", Id),
    Column("platform", String(200), nullable=False),
    Column("devices", Integer, nullable=False),
    Column("status", String(16), nullable=False),  # waiting, taken, done
    Column("worker_id", Id),
    Column("fence", BigInteger, nullable=False, server_default="0"),  # tries so far
    Column("waiting_since", Instant, nullable=False),
    Column("expires_at", Instant),  # of the try under way
    Column("created_at", Instant, nullable=False),
    Column("resolved_spec", Document, nullable=False),
    Column("answer", Document),  # {found} or {error}, once done
    Index("ix_preflights_status_id", "status", "id"),
)
"""Validations that wait for a worker to look at a spec. Whoever asked reads the answer and deletes the row."""

preflight_needs = Table(
    "preflight_needs",
    METADATA,
    Column("preflight_id", Id, ForeignKey("preflights.id", ondelete="CASCADE"), primary_key=True),
    Column("need", String(400), primary_key=True),
)

workers = Table(
    "workers",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, nullable=False),
    Column("platform", String(200), nullable=False),
    Column("device_kind", Text, nullable=False),
    Column("device_count", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("labels", Document, nullable=False),
    Column("versions", Document, nullable=False),
    Column("catalog_digest", Text, nullable=False),
    Column("code", Document),  # {mode, willing, measures, missing}: how it runs and contains code of users
    Column("status", String(16), nullable=False),  # active | draining; gone is told by `seen_at`
    Column("key_id", Id),  # the key that registered it
    Column("all_projects", Boolean, nullable=False, server_default=text("true")),  # or its project's jobs alone
    Column("registered_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
)

worker_offers = Table(
    "worker_offers",
    METADATA,
    Column("worker_id", Id, ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True),
    Column("offer", String(400), primary_key=True),
)

attempts = Table(
    "attempts",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("mesh_axes", Document, nullable=False),
    Column("storage", String(8), nullable=False),  # file: its worker shares the artifact folder; http: bytes come through us
    Column("resumed_from", BigInteger),  # step; null: from the start
    Column("phase", String(32)),
    Column("step", BigInteger, nullable=False),
    Column("last_step_at", Text),
    Column("report_batch", BigInteger, nullable=False, server_default="0"),
    Column("key_id", Id),  # that of its worker: no other key may write for it
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ending", String(16)),  # jobs.protocol.Ending, or "lost"
    Column("cause", Document),  # {code, message, param} where it ended badly
    Column("steps_lost", BigInteger, nullable=False, server_default="0"),
    Column("seconds", Document),
    Column("points", BigInteger, nullable=False, server_default="0"),  # of metrics, that it has brought
    Column("collected_at", Instant),  # when what it left half-written was removed
    Index("uq_attempts_job_id_number", "job_id", "number", unique=True),
    Index(
        "ix_attempts_uncollected",
        "ended_at",
        sqlite_where=text("ended_at IS NOT NULL AND collected_at IS NULL"),
        postgresql_where=text("ended_at IS NOT NULL AND collected_at IS NULL"),
    ),
)

leases = Table(
    "leases",
    METADATA,
    Column("attempt_id", Id, ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("job_id", Id, nullable=False),
    Column("project", Id),
    Column("worker_id", Id, nullable=False),
    Column("devices", Integer, nullable=False),
    Column("beat_at", Instant, nullable=False),
    Column("moved_at", Instant),  # the first beat with the step and the phase that the last one had; null: not known
    Column("expires_at", Instant, nullable=False),
    Index("ix_leases_expires_at", "expires_at"),
    Index("ix_leases_worker_id", "worker_id"),
)
"""The right to run an attempt, one row a rank. The rows go when the attempt ends."""

reservations = Table(
    "reservations",
    METADATA,
    Column("worker_id", Id, ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("made_at", Instant, nullable=False),
    Index("ix_reservations_job_id", "job_id"),
)
"""Workers whose devices are kept for a job that needs more of them than are free."""

attempt_workers = Table(
    "attempt_workers",
    METADATA,
    Column("attempt_id", Id, ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("worker_id", Id, nullable=False),
)
"""Who ran which attempt; outlives the lease."""

events = Table(
    "events",
    METADATA,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("id", Id, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("type", String(100), nullable=False),
    Column("data", Document, nullable=False),
)

metric_chunks = Table(
    "metric_chunks",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("labels", Text, nullable=False),  # canonical JSON, keys sorted
    Column("count", Integer, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("steps", LargeBinary, nullable=False),  # int64, little endian
    Column("values", LargeBinary, nullable=False),  # float64, little endian; NaN and infinities as they are
    Column("thinned_from", BigInteger),  # points that stood here before only some were kept; null: all are here
    Index("ix_metric_chunks_job_id_name_id", "job_id", "name", "id"),
    Index("ix_metric_chunks_job_id_id", "job_id", "id"),
)
"""Points of one series, packed as a batch brought them. A later chunk overwrites an earlier one step by step."""

metric_series = Table(
    "metric_series",
    METADATA,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(64), primary_key=True),  # SHA-256 of its name and labels
)
"""Which series a job has, so that their number can be bounded."""

log_chunks = Table(
    "log_chunks",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt_id", Id, nullable=False),
    Column("body", Text, nullable=False),
    Column("total", BigInteger, nullable=False, server_default="0"),  # characters of the job's log up to this chunk's end
    Index("ix_log_chunks_job_id_id", "job_id", "id"),
)

checkpoints = Table(
    "checkpoints",
    METADATA,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("attempt_id", Id, nullable=False),
    Column("prefix", Text, nullable=False),  # its folder below the artifact folder
    Column("metrics", Document, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Column("manifest", Document, nullable=False),  # {files: [File], outputs: [File and the key where it lies]}
    Column("manifest_sha256", String(64), nullable=False),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    Column("expires_at", Instant),  # by its owner's word: kept until then
    Column("lapses_at", Instant),  # by the job's `ttl_seconds`: kept no longer than that
    Column("created_at", Instant, nullable=False),
)

artifacts = Table(
    "artifacts",
    METADATA,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("key", Text, nullable=False),  # where it lies below the artifact folder
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
)

uploads = Table(
    "uploads",
    METADATA,
    Column("key", Text, primary_key=True),  # below the artifact folder
    Column("attempt_id", Id, ForeignKey("attempts.id", ondelete="CASCADE"), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Index("ix_uploads_attempt_id", "attempt_id"),
)
"""Files that a worker without the artifact folder has sent whole; a report may commit these and no others."""

datasets = Table(
    "datasets",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, nullable=False),
    Column("name", Text),
    Column("format", String(16), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("rows", BigInteger),
    Column("columns", Document, nullable=False),
    Column("text", Document),  # {characters, distinct_characters, max_byte} of a text
    Column("tokenizer", Document),  # {model, vocab_size} of a tokenizer
    Column("key", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("uq_datasets_project_format_sha256", "project", "format", "sha256", unique=True),
)

code_bundles = Table(
    "code_bundles",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, nullable=False),
    Column("name", Text),
    Column("module", String(100), nullable=False),  # what a single Python file is called; "" for an archive
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("facts", Document, nullable=False),  # {files, modules, remarks}
    Column("key", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("uq_code_bundles_project_module_sha256", "project", "module", "sha256", unique=True),
)
"""Uploaded user code: the bytes as they came, and what reading them told."""

idempotency_keys = Table(
    "idempotency_keys",
    METADATA,
    Column("project", Id, primary_key=True),
    Column("route", String(200), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("response", Document, nullable=False),
    Column("created_at", Instant, nullable=False),
)

webhooks = Table(
    "webhooks",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("project", Id, nullable=False),
    Column("name", Text),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),  # signs too until `previous_until`
    Column("previous_until", Instant),
    Column("status", String(16), nullable=False),  # active | disabled
    Column("reason", String(32)),  # why it is disabled: asked, gone, failing
    Column("succeeded_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("ix_webhooks_project_id", "project", "id"),
)

webhook_filters = Table(
    "webhook_filters",
    METADATA,
    Column("webhook_id", Id, ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    Column("pattern", String(100), primary_key=True),
)
"""Which types of event a webhook is told: `job.failed`, `job.*`, `*`."""

webhook_deliveries = Table(
    "webhook_deliveries",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("webhook_id", Id, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("message_id", Id, nullable=False),  # the event's id: the same in every try
    Column("type", String(100), nullable=False),
    Column("status", String(16), nullable=False),  # pending | delivered | failed
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", Instant, nullable=False),  # while somebody is at it: when that somebody is given up
    Column("created_at", Instant, nullable=False),
    Column("settled_at", Instant),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("data", Document, nullable=False),
    Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
    Index("ix_webhook_deliveries_created_at", "created_at"),
    Index(
        "ix_webhook_deliveries_due",
        "webhook_id",
        "next_at",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
)
"""The outbox: a message for one webhook, written in the transaction of the event it tells."""
