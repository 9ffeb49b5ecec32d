"""A child without JAX, which does what its job tells it: `{"script": [[verb, …], …]}` in the spec, or as text in its metadata.

The verbs:

    print TEXT TIMES        write to the log
    bytes HEX               write raw bytes to the log
    start                   print the start message as JSON
    digests                 print the digests of dataset, resume and outputs as JSON
    environment NAME        print what the environment has under that name
    phase NAME              enter a phase
    slowly FIRST LAST S     the same as steps, S seconds apart
    compute LAST EVERY S    go on to a step from where the job stands, S seconds a step, a checkpoint every so many, and a result
    chatter                 print, and tell of the same step, for ever
    steps FIRST LAST        metrics and progress of these steps
    reach STEP              mark a step and tell nobody
    metrics STEP VALUES     one metrics message
    send MESSAGE            any message
    say TEXT                a line that need not be a message
    output PATH TEXT        write an output
    outputs COUNT           write many small outputs
    checkpoint STEP PATHS   write a checkpoint and tell of it, with these outputs
    obey                    carry commands out until one ends the attempt
    await COMMAND           read commands until this one comes
    trace PATH              wait until a trace is wanted, write it, and have it listed
    ignore                  do nothing for ever
    hold                    hold the interpreter for ever
    spawn                   start a process that never ends, and print its number
    escape                  the same, in a session of its own, which holds the log open
    pid                     print the number of this process
    reset SIGNAL            do with a signal what the system does
    die SIGNAL              be killed
    once VERB …             do that in the first attempt only
    exit STATUS             leave without a word
    end ENDING MORE         the last message, with further fields
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from worker.channel import Channel, Message

ENDING_OF = {"pause": "paused", "cancel": "cancelled", "drain": "released"}
FOREVER = [sys.executable, "-c", "import signal; signal.pause()"]


class FakeChild:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._heard = channel.receive()
        self._step = 0
        self._outputs: list[str] = []
        self._ended = False

    def run(self) -> None:
        start = next(self._heard, None)
        if start is None:
            return
        self._start = start
        self._directory = Path(start["directory"])
        self._step = (start["assignment"]["resume"] or {"step": 0})["step"]
        spec = start["assignment"]["spec"]
        for verb, *arguments in spec["script"] if "script" in spec else json.loads(spec["metadata"]["script"]):
            getattr(self, f"do_{verb}")(*arguments)
        if not self._ended:
            self.do_end("succeeded")

    def do_print(self, text: str, times: int = 1) -> None:
        for _ in range(times):
            sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def do_bytes(self, digits: str) -> None:
        os.write(1, bytes.fromhex(digits))

    def do_start(self) -> None:
        self.do_print(json.dumps(self._start))

    def do_digests(self) -> None:
        paths = {name: self._start[name] for name in ("dataset", "resume", "outputs")} | self._start["beside"]
        found = {name: _digests(Path(path)) for name, path in paths.items() if path}
        self.do_print(json.dumps(found))

    def do_environment(self, name: str) -> None:
        self.do_print(f"{name}={os.environ.get(name)}")

    def do_steps(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self._step = step
            self.do_metrics(step, {"train/loss": 1.0 / step})
            self.do_send({"type": "progress", "step": step})

    def do_phase(self, name: str) -> None:
        self.do_send({"type": "phase", "phase": name, "step": self._step, "seconds": {}})

    def do_slowly(self, first: int, last: int, seconds: float) -> None:
        for step in range(first, last + 1):
            time.sleep(seconds)
            self.do_steps(step, step)

    def do_compute(self, last: int, every: int, seconds: float) -> None:
        for step in range(self._step + 1, last + 1):
            time.sleep(seconds)
            self.do_steps(step, step)
            self.do_reach(step)
            if step % every == 0:
                self.do_output(f"sums/{step}", str(step * (step + 1) // 2))
                self.do_checkpoint(step)
        self.do_end("succeeded", {"result": {"sum": last * (last + 1) // 2}})

    def do_chatter(self) -> None:
        while True:
            self.do_metrics(self._step + 1, {"train/loss": 99.0})
            self.do_print("chatter")
            time.sleep(0.01)

    def do_reach(self, step: int) -> None:
        self._channel.reached(step)

    def do_metrics(self, step: int, values: dict[str, Any]) -> None:
        self.do_send(
            {"type": "metrics", "steps": [step], "labels": {}, "values": {name: [value] for name, value in values.items()}}
        )

    def do_send(self, message: Message) -> None:
        self._channel.send(message)

    def do_say(self, text: str) -> None:
        os.write(int(sys.argv[2]), text.encode() + b"\n")

    def do_output(self, path: str, text: str) -> None:
        target = Path(self._start["outputs"]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(target.name + ".new").write_text(text)
        target.with_name(target.name + ".new").replace(target)
        self._outputs.append(path)

    def do_outputs(self, count: int) -> None:
        for number in range(count):
            self.do_output(f"many/{number:04d}", "x" * 2000)

    def do_checkpoint(self, step: int, outputs: list[str] | None = None) -> None:
        folder = self._directory / "checkpoints" / str(step)
        for name, content in checkpoint_content(step).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        self._step = step
        self.do_send({"type": "checkpoint", "step": step, "metrics": {"eval/loss": 0.5}, "outputs": outputs or self._outputs})

    def do_obey(self) -> None:
        for message in self._heard:
            command = message["command"]
            if command in ENDING_OF:
                self._obey_stop(command, save=message["save"])
                return
            self._step += 1
            self.do_checkpoint(self._step)
            self.do_send({"type": "handled", "command": command})

    def _obey_stop(self, command: str, *, save: bool) -> None:
        if save:
            self.do_send({"type": "phase", "phase": "checkpointing", "step": self._step + 1})
            self.do_checkpoint(self._step + 1)
        self.do_end(ENDING_OF[command])

    def do_await(self, command: str) -> None:
        for message in self._heard:
            if message["command"] == command:
                return

    def do_trace(self, path: str) -> None:
        wanted = next(message for message in self._heard if message["type"] == "profile")
        self.do_output(path, json.dumps(wanted))
        event = {"event": "profile.finished", "data": {"step": self._step}}
        self.do_send({"type": "artifacts", "paths": [path], **event})

    def do_ignore(self) -> None:
        threading.Event().wait()

    def do_hold(self) -> None:
        ctypes.PyDLL(None).pause()

    def do_spawn(self) -> None:
        self.do_print(f"spawned {subprocess.Popen(FOREVER).pid}")

    def do_escape(self) -> None:
        self.do_print(f"spawned {subprocess.Popen(FOREVER, start_new_session=True).pid}")

    def do_pid(self) -> None:
        self.do_print(f"pid {os.getpid()} ")

    def do_reset(self, name: str) -> None:
        if name != "SIGKILL":
            signal.signal(signal.Signals[name], signal.SIG_DFL)

    def do_once(self, verb: str, *arguments: Any) -> None:
        if self._start["assignment"]["number"] == 1:
            getattr(self, f"do_{verb}")(*arguments)

    def do_die(self, name: str) -> None:
        os.kill(os.getpid(), signal.Signals[name])
        threading.Event().wait()

    def do_exit(self, status: int) -> None:
        os._exit(status)

    def do_end(self, ending: str, more: dict[str, Any] | None = None) -> None:
        self._ended = True
        fields = {"error": None, "seconds": {"training": 0.01}, "result": None, "artifacts": []}
        self.do_send({"type": "end", "ending": ending, "step": self._step} | fields | (more or {}))


def _digests(path: Path) -> Any:
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return {found.relative_to(path).as_posix(): _digests(found) for found in path.rglob("*") if found.is_file()}


def checkpoint_content(step: int) -> dict[str, bytes]:
    """The files of a checkpoint of this step, the same whoever writes it."""
    block = hashlib.sha256(str(step).encode()).digest()
    return {"state/weights": block * 10_000, "state/empty": b"", "meta/text": f"step {step}".encode()}


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    reader, writer, mark = (int(fd) for fd in sys.argv[1:4])
    FakeChild(Channel(os.fdopen(reader, "rb"), os.fdopen(writer, "wb", buffering=0), mark)).run()


if __name__ == "__main__":
    main()
