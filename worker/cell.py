"""One attempt that runs code of a user: where its bundles are unpacked, what it may see, and the child that it gets to itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jobs.errors import UserFault
from jobs.protocol import Code
from jobs.spec.bundle.archive import DEFAULT_MODULE, read_files
from jobs.spec.bundle.facts import BundleInvalid
from worker.child import Launcher
from worker.containment import LAUNCHER, Containment, environment
from worker.watch import Bounds


class Cell:
    """Folders and policy of one attempt.

    Args:
        containment: what this machine can do.
        user: the id that the code runs as; None for the agent's own.
        scratch: the attempt's scratch folder.
    """

    def __init__(self, containment: Containment, user: int | None, scratch: Path) -> None:
        self._containment = containment
        self._user = user
        self._home, self._code = scratch / "home", scratch / "code"
        self.compile_cache, self.encoded = self._home / "compile-cache", self._home / "encoded"
        self.bounds = Bounds(containment.memory_bytes, containment.start_seconds, containment.wall_seconds)

    def launcher(self, launcher: Launcher) -> Launcher:
        """Starts the same program, confined."""
        for folder in (self._home, self._code, self.compile_cache, self.encoded):
            folder.mkdir(parents=True, exist_ok=True)
        return launcher.behind(LAUNCHER, lambda agents: environment(agents, self._home))

    def unpack(self, bundles: Iterable[tuple[Code, Path]]) -> dict[str, Path]:
        """Write out the files of verified bundles. Gives the folder of each. Blocks.

        Raises:
            UserFault: `user_code_error`: one cannot be read after all.
        """
        folders: dict[str, Path] = {}
        for code, path in bundles:
            folder = self._code / code.id
            try:
                files = read_files(path.read_bytes(), code.module or DEFAULT_MODULE)
            except BundleInvalid as error:
                raise UserFault("user_code_error", f"the bundle {code.id} cannot be unpacked: {error}", "/model/code") from error
            for name, content in files.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            folders[code.id] = folder
        return folders

    def policy(self, directory: Path, inputs: Iterable[Path | None]) -> dict[str, Any]:
        """What the child may do, with its folders handed over to the user it runs as.

        Args:
            directory: the attempt's own, where it writes `checkpoints` and `outputs` and nothing else.
            inputs: files and folders that it reads.
        """
        writable = [self._home, directory / "checkpoints", directory / "outputs"]
        for folder in writable:
            folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            for folder in [
                *writable,
                self.compile_cache,
                self.encoded,
                *(path for path in writable[2].rglob("*") if path.is_dir()),
            ]:
                os.chown(folder, self._user, self._user)
        readable = [self._code, *(path for path in inputs if path is not None)]
        return {"type": "confine", **self._containment.policy(self._user, readable, writable)}
