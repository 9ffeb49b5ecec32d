"""A real child in a process of its own, driven through its pipes as an agent drives it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import specs
from worker.channel import MARK_BYTES, Message, decode, encode

PATIENCE_SECONDS = 240


class ChildProcess:
    """A child on its way.

    Args:
        folder: the attempt's directory.
        document: the job.
        devices: virtual CPU devices.
        dataset: the data file, if the job has one.
        resume: a checkpoint folder to start from.
        outputs: the folder of outputs; by default the attempt's own.
        what: what to take of `resume`.
        largest_file: bytes that a file may have before the system refuses to write on, as a full disk would.
        most_memory: bytes that the process may map before the system refuses more.
    """

    def __init__(
        self, folder: Path, document: dict[str, Any], devices: int = 1, dataset: Path | None = None, resume: Path | None = None,
        outputs: Path | None = None, what: str = "all", *, largest_file: int = resource.RLIM_INFINITY,
        most_memory: int = resource.RLIM_INFINITY,
    ) -> None:  # fmt: skip
        self.folder, self.messages = folder, []
        self.sent_at = self.ended_at = 0.0
        self._news = threading.Condition()
        down, self._down = os.pipe()
        self._up, up = os.pipe()
        folder.mkdir(parents=True, exist_ok=True)
        self.log = (folder / "log.txt").open("wb")

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            resource.setrlimit(resource.RLIMIT_AS, (most_memory, most_memory))

        self.mark = os.memfd_create("mark")
        os.ftruncate(self.mark, MARK_BYTES)
        command = [sys.executable, "-m", "worker.child_main", str(down), str(up), str(self.mark)]
        self.process = subprocess.Popen(
            command,
            pass_fds=(down, up, self.mark),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509
        )
        os.close(down)
        os.close(up)
        self.messages: list[Message] = []
        threading.Thread(target=self._read, daemon=True).start()
        spec = specs.resolve(document)
        resumed = {"step": int(resume.name), "what": what} if resume else None
        if resume and what == "params":
            spec["init_from"] = {"job": "job_1", "step": int(resume.name), "what": what, "include": None, "exclude": []}
        form = {"form": {".txt": "text", ".npz": "npz"}.get(dataset.suffix if dataset else "", "")}["form"]
        data = {"id": "ds_1", "format": form, "sha256": "0" * 64, "bytes": dataset.stat().st_size} if dataset else None
        assignment = {
            "job_id": "job_1",
            "spec": spec,
            "mesh_axes": spec["mesh"]["axes"],
            "resume": resumed,
            "dataset": data,
            "beside": {},
        }
        self.sent_at = time.monotonic()
        self.tell({
            "type": "start", "assignment": assignment, "directory": str(folder), "resume": str(resume) if resume else None,
            "outputs": str(outputs or folder / "outputs"), "dataset": str(dataset) if dataset else None, "cpu_devices": devices,
            "beside": {}, "encoded": str(folder / "encoded"),
            "device_ids": None, "sent_at": self.sent_at, "compile_cache": str(specs.COMPILE_CACHE) if largest_file < 0 else None,
        })  # fmt: skip

    def tell(self, message: Message) -> None:
        """Say something to the child."""
        os.write(self._down, encode(message))

    def command(self, word: str, *, save: bool = True) -> None:
        """Give a command."""
        self.tell({"type": "command", "command": word, "save": save})

    def until(self, true: Callable[[Message], bool]) -> Message:
        """Wait for a message."""
        with self._news:
            self._news.wait_for(lambda: self._over or any(map(true, self.messages)), PATIENCE_SECONDS)
        for message in self.messages:
            if true(message):
                return message
        raise AssertionError(f"the child never said it; its log: {(self.folder / 'log.txt').read_text()[-3000:]}")

    def until_step(self, step: int) -> None:
        """Wait until a step is done."""
        self.until(lambda m: (m["type"] == "progress" and m["step"] >= step) or (m["type"] == "metrics" and m["steps"][-1] >= step))

    def end(self) -> Message:
        """Wait for the last message and for the process."""
        message = self.until(lambda m: m["type"] == "end")
        self.process.wait(PATIENCE_SECONDS)
        return message

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        with self._news:
            self._news.wait_for(lambda: self._over, PATIENCE_SECONDS)

    def metrics(self) -> dict[tuple[int, str, str], float]:
        """All values that do not depend on the clock, by step, labels and name."""
        clocked = ("step_seconds", "tokens_per_second", "samples_per_second", "data_wait_seconds")
        return {
            (step, str(m["labels"]), name): value
            for m in self.messages
            if m["type"] == "metrics"
            for name, values in m["values"].items()
            if name not in clocked
            for step, value in zip(m["steps"], values, strict=True)
        }

    def checkpoints(self) -> list[int]:
        """The steps that were told to be durable."""
        return [m["step"] for m in self.messages if m["type"] == "checkpoint"]

    _over = False

    def _read(self) -> None:
        with os.fdopen(self._up, "rb") as stream:
            for line in stream:
                with self._news:
                    self.messages.append(decode(line))
                    self.ended_at = time.monotonic()
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()
