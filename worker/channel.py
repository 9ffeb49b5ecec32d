"""What an agent and its child say to each other: one JSON object a line, over a pair of pipes. No JAX here.

Beside them lie eight bytes of memory that both see, the mark: the step that the child has reached, in little-endian order. They
outlive the child.

The child's standard output and error are its log and go another way; these lines never mix with it.

From the agent, before anything else and only where code of a user will run, to the launcher that comes before the child:
    {"type": "confine", …policy…}                        `worker/confine.py`

From the agent, then and once:
    {"type": "start", "assignment": {…Assignment…}, "directory": "/…", "resume": "/…" | null, "outputs": "/…",
     "dataset": "/…" | null, "beside": {"tokenizer": "/…", "eval": "/…"}, "code": {"code_…": "/…"}, "encoded": "/…",
     "cpu_devices": 8 | null, "device_ids": [0, 1] | null, "compile_cache": "/…" | null, "sent_at": 12.5}
    `directory`: where the child writes `checkpoints/{step}/` and `outputs/`. `resume`: a verified checkpoint folder to read.
    `outputs`: the folder of outputs (`outputs/` below `directory`), where the verified outputs of `resume` lie already.
    `dataset`: a verified data file. `beside`: verified files read beside it.
    `code`: folders of unpacked bundles.
    `encoded`: folder of texts as tokens, which the child fills. `sent_at`: when this was sent, by the machine's monotonic clock.
    Or `"type": "preflight"` with the same and `"level": "shapes" | "compile"`: look at the spec and run nothing.
Later, at most one at a time:
    {"type": "command", "command": "checkpoint" | "pause" | "cancel" | "drain", "save": true}
and beside it:
    {"type": "profile", "num_steps": 5, "memory": true}                             trace so many steps from here

From the child:
    {"type": "devices", "platform": "cpu", "device_kind": "cpu", "count": 8}
    {"type": "phase", "phase": "compiling", "step": 0, "seconds": {…}}
    {"type": "progress", "step": 12, "seconds": {…}}     a step that is done on the devices; seconds by phase so far
    {"type": "metrics", "steps": [11, 12], "labels": {}, "values": {"train/loss": [2.5, "NaN"]}}    or "Infinity", "-Infinity"
    {"type": "checkpoint", "step": 200, "metrics": {…}, "outputs": ["draws/00000250.npz", …]}   durable; all outputs up to the step
    {"type": "artifacts", "paths": ["profile/10/…"], "event": "profile.finished", "data": {…}}     whole files of the outputs
    {"type": "event", "event": "compile.finished", "data": {…}}
    {"type": "handled", "command": "checkpoint"}
    {"type": "found", "found": {…Findings…}}             the last line of a preflight that went well
    {"type": "end", "ending": "succeeded", "step": 2000, "error": null | {code, message, param}, "seconds": {…},
     "result": {…} | null, "artifacts": ["posterior.nc", …]}     the last line; without it, the way the process died tells the story
"""

from __future__ import annotations

import json
import mmap
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

Message = dict[str, Any]
MARK_BYTES = 8


def encode(message: Message) -> bytes:
    """One message as a line."""
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of a line."""
    message: Message = json.loads(line)
    return message


class Channel:
    """The child's end: sends from any thread, reads from one.

    Args:
        reader: stream of the agent's lines.
        writer: stream for ours, unbuffered.
        mark: file of `MARK_BYTES` that the agent has open too: where the step is written that the child has reached.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO, mark: int) -> None:
        self._reader = reader
        self._writer = writer
        self._mark = mmap.mmap(mark, MARK_BYTES)
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one message. Raises BrokenPipeError once the agent is gone."""
        with self._lock:
            self._writer.write(encode(message))
            self._writer.flush()

    def reached(self, step: int) -> None:
        """Note the step. Costs no call of the system, and is there for the agent when this process is not."""
        self._mark[:] = step.to_bytes(MARK_BYTES, "little")

    def receive(self) -> Iterator[Message]:
        """Give the agent's messages until it closes its end."""
        for line in self._reader:
            yield decode(line)
