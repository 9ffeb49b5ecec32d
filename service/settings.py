"""The service's settings, read once from flags and environment (`MESHYARD_…`) and passed on as an argument."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

HOME = Path("~/.local/share/meshyard").expanduser()
MEBIBYTE = 1024 * 1024
DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Days = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Everything an operator can set. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="MESHYARD_", frozen=True)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8642
    database_url: str = f"sqlite:///{HOME / 'meshyard.db'}"
    artifact_root: Path = HOME / "artifacts"
    api_key: str | None = None
    """The one key. Without it the server binds to loopback only and answers to loopback host names only."""

    key_pepper: str | None = None
    """The secret under which keys are hashed; the same for every replica. Without it one is made and kept in a file."""

    key_cache_seconds: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 5.0
    """How long a key that was recognised is not looked up again; so long may another replica take to hear that it was revoked."""

    allowed_hosts: str = ""
    """Names under which the service answers, with commas between; `*.example.org` means all below it. Empty: all, with a key."""

    requests_per_second: Rate = 1000.0
    """How many requests one key may send to one replica, over time; 0 sets no bound."""

    requests_at_once: Count = 5000
    """How many of them in one burst."""

    failures_per_minute: Rate = 120.0
    """How many wrong keys one address may send; 0 sets no bound."""

    max_streams_per_key: Count = 200
    """How many streams and followed logs one key may hold open at one replica."""

    body_seconds: Seconds = 30.0
    """How long the service waits for a body, beside a second for each `body_bytes_per_second` that have come."""

    body_bytes_per_second: Bytes = 4096

    header_seconds: Seconds = 20.0
    """How long a connection may take to send a request's head."""

    audit_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 400.0

    code: Literal["off", "on", "uncontained"] = "off"
    """Whether users may upload code of their own. `uncontained` means something to workers alone, who read the same variable."""

    log_format: Literal["text", "json"] = "text"
    log_requests: bool = False
    """Whether every request gets a line."""

    lease_seconds: Seconds = 15.0
    sweep_seconds: Seconds = 1.0
    stall_seconds: Seconds = 900.0
    """So long may a running job's step and phase stand still while it does steps, and four times as long otherwise."""

    poll_seconds: Seconds = 1.0
    """How often a waiting long poll or stream looks at the database when no hint reaches it."""

    priority_age_seconds: Seconds = 600.0
    """A job of one priority more counts as if it had come so much earlier; so everybody's turn comes."""

    reserve_after_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    """After so long a worker keeps its devices free for the first job that needs more of them than are free."""

    preemption: Literal["off", "priority"] = "off"
    """Whether a job may take the devices of running ones of lower priority of its project; these are saved and go on later."""

    preemption_cooldown_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0
    """So long an attempt runs at least before it may be preempted."""

    preflight_wait_seconds: Seconds = 30.0
    """How long a validation on a worker waits for one that is free."""

    preflight_seconds: Seconds = 300.0
    """How long a worker may take over one."""

    max_body_bytes: Bytes = 2 * MEBIBYTE
    max_report_bytes: Bytes = 32 * MEBIBYTE
    max_dataset_bytes: Bytes = 2048 * MEBIBYTE
    max_code_bytes: Bytes = 8 * MEBIBYTE
    data_uris: str = ""
    """Folders below which jobs may name files as `file://…`, separated by colons."""

    webhook_targets: str = ""
    """Hosts and networks, separated by commas, that webhooks may point to although they are not public: `10.1.0.0/16,hooks.lan`."""

    webhook_timeout_seconds: Seconds = 10.0
    """How long a target may take over one message, from resolving its name to the end of its answer."""

    webhook_backoff_seconds: Seconds = 5.0
    """Before the second try; later ones come after longer and longer, the last about 17 000 times this after the first."""

    max_series_per_job: Count = 2_000
    max_points_per_job: Count = 20_000_000
    """What comes beyond is dropped, and the job's events say so: metrics never end a job."""

    max_log_chars_per_job: Count = 64 * MEBIBYTE
    """The oldest goes first."""

    max_log_line_chars: Count = 32 * 1024
    max_streams: Count = 500
    """Readers that follow jobs at the same time; more are asked to come back later."""

    min_free_bytes: Annotated[int, Field(ge=0)] = 512 * MEBIBYTE
    """With less left where artifacts lie, uploads are refused until there is more."""

    keep_event_days: Days = 0.0
    """Of jobs that have ended; their last event stays. 0 keeps, here and below."""

    keep_job_days: Days = 0.0
    """After its end, a job goes with all it has left."""

    keep_dataset_days: Days = 0.0
    """Datasets that no job names."""

    keep_delivery_days: Days = 7.0
    """Messages for webhooks, whatever came of them."""

    thin_metrics_days: Days = 90.0
    """After its end, a job's series are thinned to `thin_metrics_points` each, keeping their shape."""

    thin_metrics_points: Annotated[int, Field(ge=10)] = 10_000

    max_json_depth: Annotated[int, Field(ge=8, le=512)] = 64
    idempotency_hours: Annotated[float, Field(ge=24, allow_inf_nan=False)] = 48.0

    @property
    def data_folders(self) -> list[str]:
        """The folders of `data_uris`; each may be written as a path or as `file://…`."""
        return [folder for entry in self.data_uris.replace("file://", "").split(":") if (folder := entry.strip())]

    @property
    def host_patterns(self) -> list[str]:
        """The entries of `allowed_hosts`."""
        return [entry for part in self.allowed_hosts.split(",") if (entry := part.strip().lower().rstrip("."))]

    @field_validator("api_key", "key_pepper")
    @classmethod
    def _empty_means_none(cls, value: str | None) -> str | None:
        # Compose files pass a variable that is not set on as an empty one; that must not become a key that anybody can send.
        return value or None

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        scheme = DRIVERS.get(scheme, scheme)
        if scheme == "sqlite" and rest.startswith("/") and not rest.startswith("/:memory:") and len(rest) > 1:
            return value
        if scheme == "postgresql+psycopg" and separator:
            return f"{scheme}://{rest}"
        raise ValueError("must be sqlite:///path/of/a/file or postgresql+psycopg://…")

    @field_validator("webhook_targets")
    @classmethod
    def _sound_networks(cls, value: str) -> str:
        for entry in filter(None, map(str.strip, value.split(","))):
            if "/" in entry or ":" in entry:
                ip_network(entry, strict=False)
        return value

    @field_validator("artifact_root")
    @classmethod
    def _whole_path(cls, value: Path) -> Path:
        return value.expanduser().absolute()
