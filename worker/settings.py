"""The worker's settings, read once from flags and environment (`MESHYARD_…`) and passed on as an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobs.errors import MeshyardError

PREFIX = "MESHYARD_"
MOST_LABEL_CHARACTERS = 190
CODE = ("off", "on", "uncontained")
DEFAULT_SERVER = "http://127.0.0.1:8642"
DEFAULT_WORK_DIR = Path("~/.cache/meshyard/work").expanduser()


class SettingsInvalid(MeshyardError):
    """A setting cannot be used; the text says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """Everything an operator can set for a worker.

    Attributes:
        server: address of the service.
        api_key: key the service asks for, if it asks for one. Children never see it.
        cpu_devices: virtual CPU devices to make; None takes the devices the machine has.
        labels: what jobs may ask for by `resources.labels`.
        slots: jobs to run at once; each slot owns an equal share of the devices.
        work_dir: scratch files, downloaded data and compile caches.
        platform: JAX platform to use (`cpu`, `cuda`, `tpu`); None lets JAX choose.
        cache_gib: most that data and compiled programs kept for later jobs may take together.
        artifact_root: where this machine sees the service's artifact folder, if elsewhere than the service does.
        code: whether to run code of users: `off`, `on` where this machine can contain it, `uncontained` even where it cannot.
        code_memory_gib: what the processes of one job with such code may have; None for a slot's share of the memory, less a fifth.
        code_start_seconds: how long such a job may take to its first step.
        code_wall_seconds: how long one attempt at it may take.
    """

    server: str = DEFAULT_SERVER
    api_key: str | None = field(default=None, repr=False)
    cpu_devices: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    slots: int = 1
    work_dir: Path = DEFAULT_WORK_DIR
    platform: str | None = None
    artifact_root: Path | None = None
    cache_gib: float = 50.0
    code: str = "off"
    code_memory_gib: float | None = None
    code_start_seconds: float = 600.0
    code_wall_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        """Refuse what could never work.

        Raises:
            SettingsInvalid: a setting is out of range or malformed.
        """
        address = _split(self.server)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise SettingsInvalid("server must be an address such as http://127.0.0.1:8642")
        if self.cpu_devices is not None and not 1 <= self.cpu_devices <= 1024:
            raise SettingsInvalid("cpu_devices must be between 1 and 1024")
        if not 1 <= self.slots <= 1024:
            raise SettingsInvalid("slots must be between 1 and 1024")
        if any(len(name) + len(value) > MOST_LABEL_CHARACTERS or "\x00" in name + value for name, value in self.labels.items()):
            raise SettingsInvalid(f"a label and its value may have {MOST_LABEL_CHARACTERS} characters together")
        if self.code not in CODE:
            raise SettingsInvalid("code must be off, on or uncontained")
        if self.cpu_devices is not None and self.platform not in (None, "cpu"):
            raise SettingsInvalid("cpu_devices makes virtual CPU devices: leave platform out, or set it to cpu")


def _split(server: str) -> Any:
    try:
        address = urlsplit(server)
        _ = address.port
    except ValueError as error:
        raise SettingsInvalid(f"server is not an address: {error}") from error
    return address


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Labels from `k=v` texts, each of which may hold several parted by commas.

    Raises:
        SettingsInvalid: one has no `=` or no name.
    """
    labels: dict[str, str] = {}
    for text in (part.strip() for texts_ in texts for part in texts_.split(",")):
        if not text:
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise SettingsInvalid("labels are written name=value, parted by commas")
        labels[name.strip()] = value.strip()
    return labels


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that the environment gives. An empty variable counts as unset.

    Raises:
        SettingsInvalid: a variable holds something that cannot be used.
    """
    given = {
        name.removeprefix("MESHYARD_").lower(): text for name, text in environment.items() if name.startswith("MESHYARD_") and text
    }
    found: dict[str, Any] = {name: given[name] for name in ("server", "api_key", "platform", "code") if name in given}
    found |= {name: _integer(name, given[name]) for name in ("cpu_devices", "slots") if name in given}
    found |= {name: Path(given[name]).expanduser() for name in ("work_dir", "artifact_root") if name in given}
    limits = ("cache_gib", "code_memory_gib", "code_start_seconds", "code_wall_seconds")
    found |= {name: _positive(name, given[name]) for name in limits if name in given}
    if "labels" in given:
        found["labels"] = parse_labels([given["labels"]])
    return Settings(**found)


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsInvalid(f"MESHYARD_{name.upper()} must be a whole number") from None


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise SettingsInvalid(f"MESHYARD_{name.upper()} must be a number above 0")
    return value
