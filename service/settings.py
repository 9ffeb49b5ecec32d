"""The service's settings, read once from flags and environment (`MESHYARD_…`) and passed on as an argument."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

HOME = Path("~/.local/share/meshyard").expanduser()
MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """Everything an operator can set. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="MESHYARD_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8642
    database_url: str = f"sqlite:///{HOME / 'meshyard.db'}"
    artifact_root: Path = HOME / "artifacts"
    api_key: str | None = None
    """The one key. Without it the server binds to loopback only and answers to loopback host names only."""

    lease_seconds: float = 15.0
    sweep_seconds: float = 1.0
    poll_seconds: float = 1.0
    """How often a waiting long poll or stream looks at the database when no hint reaches it."""

    max_body_bytes: int = 2 * MEBIBYTE
    max_report_bytes: int = 32 * MEBIBYTE
    max_dataset_bytes: int = 2048 * MEBIBYTE
    max_json_depth: int = 64
    idempotency_hours: float = 48.0
