"""`doctor`, `backup` and `restore`: is everything well, and what to do where it is not; and a copy for the day when it was not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.errors import MeshyardError
from meshyard.cli.answer import Answer, ExitCode
from meshyard.cli.command import command
from meshyard.cli.session import Session

if TYPE_CHECKING:
    from service.settings import Settings

MOST_SKEW_SECONDS = 30.0
DEVICES = "import jax; print(jax.__version__, ' '.join(f'{d.platform}:{d.device_kind}' for d in jax.devices()))"
DEVICE_SECONDS = 120
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("-", "dim")}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do where it is not well."""

    name: str
    status: str
    detail: str
    remedy: str | None = None


class Refused(MeshyardError):
    """A backup that cannot be taken or restored."""


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Running a service"
    command(app, "doctor", "meshyard doctor", "meshyard doctor --server http://lab:8642 -o json", panel=panel)(doctor)
    command(app, "backup", "meshyard backup /mnt/backup/meshyard", "meshyard backup ./copy -o json", panel=panel)(backup)
    command(app, "restore", "meshyard restore /mnt/backup/meshyard", "meshyard restore ./copy -o json", panel=panel)(restore)


def doctor(
    session: Session,
    devices: Annotated[
        bool, typer.Option("--devices/--no-devices", help="Look at this machine's devices, which imports JAX.")
    ] = True,
) -> Answer:
    """Look at the service, and at what of it is on this machine; say what is wrong and what to do."""
    found = [*_service(session), *_this_machine()]
    if devices:
        found.append(_devices())
    failed = [one for one in found if one.status == "failed"]
    document = {"object": "examination", "healthy": not failed, "findings": [asdict(one) for one in found]}
    return Answer(document, [one.name for one in failed], lambda: _shown(found), exit_code=ExitCode.ERROR if failed else 0)


def _shown(found: list[Finding]) -> Any:
    from rich.text import Text

    text = Text()
    for one in found:
        mark, style = MARKS[one.status]
        text.append(f"{mark} ", style).append(f"{one.name}: {one.detail}\n")
        if one.remedy is not None and one.status != "ok":
            text.append(f"    {one.remedy}\n", "bold" if one.status == "failed" else "")
    text.rstrip()
    return text


def _service(session: Session) -> list[Finding]:
    """What the service says of itself, as far as it can be asked."""
    from meshyard.errors import APIError

    client = session.client
    try:
        seen = client.service.examine()
    except APIError as error:
        remedy = "Start it (meshyard serve), or name it: --server or MESHYARD_SERVER."
        return [Finding("service", "failed", f"{client.server} does not answer: {error}", remedy)]
    found = [Finding("service", "ok", f"{client.server} answers."), _clock(seen.date), _versions(seen.version)]
    if not seen.ready:
        remedy = "It does not reach its database or its artifact folder; its log says which."
        found.append(Finding("readiness", "failed", "The service says that it cannot work just now.", remedy))
    return [*found, *_behind_the_key(session)]


def _behind_the_key(session: Session) -> list[Finding]:
    from meshyard.errors import APIError, AuthenticationError, PermissionDeniedError

    try:
        workers = session.client.workers.list()
    except AuthenticationError as error:
        return [Finding("key", "failed", f"The key is not taken: {error}", "Set MESHYARD_API_KEY, or pass --api-key.")]
    except PermissionDeniedError as error:
        return [Finding("key", "warning", f"The key may not list workers: {error}", "Ask with a key that may read jobs.")]
    except APIError as error:
        return [Finding("key", "failed", f"Workers cannot be listed: {error}", "The service's log tells more, by the request id.")]
    there = [one for one in workers if one.status == "active"]
    held = ", ".join(sorted({f"{one.device_count} x {one.device_kind}" for one in there}))
    if not there:
        return [
            Finding("key", "ok", "The key is taken."),
            Finding("workers", "warning", "No worker is there.", "Run: meshyard work"),
        ]
    return [Finding("key", "ok", "The key is taken."), Finding("workers", "ok", f"{len(there)} are there: {held}.")]


def _clock(date: str | None) -> Finding:
    if date is None:
        return Finding("clock", "skipped", "The service does not tell the time.")
    skew = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(skew) > MOST_SKEW_SECONDS:
        detail = f"This machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the service's."
        return Finding("clock", "warning", detail, "Leases do not depend on it, but instants and webhooks' signatures do: use NTP.")
    return Finding("clock", "ok", "This machine's clock and the service's agree.")


def _versions(theirs: str | None) -> Finding:
    ours = _version()
    if theirs in (None, "0") or ours is None:
        return Finding("version", "skipped", "The service or this client is not installed from a release.")
    if theirs != ours:
        return Finding("version", "warning", f"The service is {theirs}, this client {ours}.", "Update the older one.")
    return Finding("version", "ok", f"Both are {ours}.")


def _version() -> str | None:
    try:
        return version("meshyard")
    except PackageNotFoundError:
        return None


def _this_machine() -> list[Finding]:
    if importlib.util.find_spec("sqlalchemy") is None:
        return [Finding("database", "skipped", "The service is not installed on this machine.")]
    from service.doctor import examine

    return [Finding(one.name, one.status, one.detail, one.remedy) for one in examine(_settings())]


def _devices() -> Finding:
    if importlib.util.find_spec("jax") is None:
        return Finding("devices", "skipped", "No worker is installed on this machine.")
    try:
        done = subprocess.run(  # noqa: S603  (this interpreter, a fixed program)
            [sys.executable, "-c", DEVICES], capture_output=True, text=True, timeout=DEVICE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "devices", "failed", f"JAX tells no devices within {DEVICE_SECONDS} s.", "Is one of them stuck, or held by a process?"
        )
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2]
        return Finding("devices", "failed", f"JAX does not start: {reason}", "Check the driver and the installed jax extra.")
    found, _, kinds = done.stdout.strip().partition(" ")
    return Finding("devices", "ok", f"JAX {found} sees {kinds}.")


def backup(
    session: Session,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; an earlier backup there is brought up to date.")],
) -> Answer:
    """Back up an SQLite service, which may go on running: its database and every file that it names."""
    return _carried_out(target, "back_up")


def restore(session: Session, source: Annotated[Path, typer.Argument(metavar="FOLDER", help="A backup.")]) -> Answer:
    """Put a backup where this machine's settings say; nothing that is there is replaced."""
    return _carried_out(source, "restore")


def _carried_out(folder: Path, what: str) -> Answer:
    from service import backup as backups

    try:
        taken = getattr(backups, what)(_settings(), folder)
    except backups.CannotBackUp as error:
        raise Refused(str(error)) from None
    lines = f"{taken.files} files, {taken.bytes:,} bytes; {taken.copied} copied" + "".join(
        f"\ngone meanwhile: {one}" for one in taken.gone
    )
    return Answer(taken.to_dict(), [str(folder)], lambda: lines)


def _settings() -> Settings:
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise Refused(f"the settings cannot be used: {faults}") from None
