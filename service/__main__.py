"""Starting the service: `python -m service [serve|migrate]`; `meshyard serve` and `meshyard migrate` come here, too."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from jobs import logbook
from service.app import create_app
from service.context import Context
from service.db import migration
from service.db.engine import Database
from service.http.auth import is_loopback
from service.http.connections import bounded
from service.settings import Settings

GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 75


class CannotStart(Exception):
    """Why the service cannot start, in a sentence."""


class _Server(uvicorn.Server):
    """Tells its address when it is ready, and lets long polls and streams go when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, context: Context, address: str) -> None:
        super().__init__(config)
        self._context = context
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"meshyard service ready at {self._address}", flush=True)  # noqa: T201  (the one line on standard output)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not the base class's way: it raises the signal anew at the end, and asking to stop is no failure.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._context.signals.close()


def serve(settings: Settings) -> int:
    """Run the service until it is asked to stop; gives the exit status."""
    logbook.configure(settings.log_format)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # webhooks: their targets are told by their deliveries
    try:
        return _serve(settings)
    except CannotStart as error:
        return _refuse(error)


def _serve(settings: Settings) -> int:
    if settings.api_key is None and not is_loopback(settings.host):
        raise CannotStart(f"Without MESHYARD_API_KEY the service listens on loopback only, not on {settings.host}.")
    with _listen(settings) as listener:
        _make_folders(settings)
        _prepare(settings)
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            http=bounded(settings.header_seconds),
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = _Server(config, app.state.context, _address(settings.host, listener))
        server.run(sockets=[listener])
        return 0 if server.started else 1


def _listen(settings: Settings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or error
        raise CannotStart(f"The service cannot listen on {settings.host} port {settings.port}: {reason}.") from None


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _make_folders(settings: Settings) -> None:
    database = Database(settings.database_url)
    folders = [settings.artifact_root, *([database.folder] if database.folder is not None else [])]
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(f"The folder {folder} cannot be made: {error.strerror or error}.") from None


def _prepare(settings: Settings) -> None:
    """Bring an SQLite database up to date; make sure that another one is."""
    database = Database(settings.database_url)
    try:
        found = migration.upgrade(database) if database.is_sqlite else migration.version(database)
    except DBAPIError as error:
        raise CannotStart(f"The database cannot be reached or read: {_brief(error)}") from None
    finally:
        database.close()
    if not found.is_known:
        raise CannotStart(f"The database is at version {found.found}, which a newer meshyard has made. Update meshyard.")
    if not found.is_current and not database.is_sqlite:
        raise CannotStart(f"The database is at version {found.found or 'none'}, not {found.newest}. Run: meshyard migrate")


def _brief(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def migrate(settings: Settings) -> int:
    """Bring the database to the newest version; gives the exit status."""
    try:
        _make_folders(settings)
        return _migrate(Database(settings.database_url))
    except CannotStart as error:
        return _refuse(error)


def _migrate(database: Database) -> int:
    try:
        before = migration.upgrade(database)
    except DBAPIError as error:
        raise CannotStart(f"The database cannot be migrated: {_brief(error)}") from None
    finally:
        database.close()
    if not before.is_known:
        raise CannotStart(f"The database is at version {before.found}, which a newer meshyard has made. Update meshyard.")
    told = "was" if before.is_current else "is now"
    sys.stderr.write(f"The database {told} at version {before.newest}.\n")
    return 0


def _refuse(error: CannotStart) -> int:
    sys.stderr.write(f"meshyard: {error}\n")
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Read flags and environment, then serve or migrate."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "migrate"), default="serve")
    for flag in ("host", "port", "database-url", "artifact-root"):
        parser.add_argument(f"--{flag}", default=argparse.SUPPRESS)
    given = vars(parser.parse_args(arguments))
    run = serve if given.pop("command") == "serve" else migrate
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return _refuse(CannotStart(f"The settings cannot be used: {faults}."))
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
